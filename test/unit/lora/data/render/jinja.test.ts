import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileTemplate, MAX_TEMPLATE_CHARACTERS } from '../../../../../lora/data/render/jinja.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const now = Date.UTC(2024, 6, 6, 15, 4, 5);

function run(source: string, variables: Record<string, unknown> = {}, messages: unknown[] = []): string {
  return compileTemplate(source, { variables, now })({ messages, tools: null, addGenerationPrompt: false });
}

describe('the template language', () => {
  it('trims blocks as transformers does, and ignores generation marks', () => {
    expect(run('  {% if true %}\n a\n  {% endif %}\n b\n')).toBe(' a\n b');
    expect(run('x {%- generation -%} y {% endgeneration %} z')).toBe('xy  z');
  });

  it('strips the same characters as Python', () => {
    const text = '\n\ufeff \u0085a\u001c\n';
    expect(run("{{ text.strip('\\n') }}", { text })).toBe('\ufeff \u0085a\u001c');
    expect(run('{{ text.strip() }}', { text })).toBe('\ufeff \u0085a');
    expect(run('{{ text | trim }}', { text })).toBe('\ufeff \u0085a');
    expect(run("{{ text.lstrip('a🎉') }}|{{ text.rstrip('🎉') }}", { text: '🎉ab🎉' })).toBe('b🎉|🎉ab');
    expect(run("{{ '' | trim }}{{ ' '.strip() }}{{ 'x'.rstrip('x') }}")).toBe('');
  });

  it('does not strip characters of words', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (word) => {
        expect(run('{{ text.strip(none) }}', { text: ` \n${word}x\t` })).toBe(`${word}x`.replace(/^\s+/, ''));
      }),
      { examples: [['\u0085 a']] },
    );
  });

  it('compares as Python does', () => {
    const cases = {
      "1 == '1'": false,
      'true == 1': true,
      "none == ''": false,
      'missing == none': false,
      'missing != none': true,
      '[1, [2]] == [1, [2]]': true,
      "{'a': 1} == {'a': 2}": false,
      "'a' != 'a'": false,
      '1.0 == 1': true,
    };
    for (const [expression, expected] of Object.entries(cases)) {
      expect(run(`{{ 'yes' if ${expression} else 'no' }}`), expression).toBe(expected ? 'yes' : 'no');
    }
  });

  it('formats the given time in English and UTC', () => {
    const format = '%d %b %Y|%-d %B %y|%A %a|%H:%M:%S|%I %p|%j|%m|%%|%Q';
    expect(run(`{{ strftime_now('${format}') }}`)).toBe(
      '06 Jul 2024|6 July 24|Saturday Sat|15:04:05|03 PM|188|07|%|%Q',
    );
  });

  it('has the range function of Python', () => {
    expect(
      run('{{ range(3) | join(",") }};{{ range(2, 8, 3) | join(",") }};{{ range(2, 0, -1) | join(",") }}'),
    ).toBe('0,1,2;2,5;2,1');
  });

  it('gives access only to the passed values', () => {
    for (const name of ['constructor', '__proto__', 'prototype', '__class__', 'process', 'globalThis']) {
      for (const value of ['messages', 'messages[0]', "''", 'range', '1', 'strftime_now']) {
        expect(run(`{{ ${value}.${name} is defined }}`, {}, [{ role: 'user' }]), `${value}.${name}`).toBe(
          'false',
        );
      }
      expect(run(`{{ ${name} is defined }}`)).toBe('false');
    }
  });

  it('gives no access to files', () => {
    for (const source of ["{% include '/etc/passwd' %}", "{% import 'x' as y %}", "{% extends 'x' %}"]) {
      expect(() => run(source), source).toThrow(withCode('TEMPLATE_INVALID'));
    }
  });

  it('refuses broken and too large templates', () => {
    const bad = ['{% if %}', '{{ ', 'a'.repeat(MAX_TEMPLATE_CHARACTERS + 1), ' '.repeat(5000), '{% endif %}'];
    for (const source of bad) {
      expect(() => run(source), source.slice(0, 20)).toThrow(withCode('TEMPLATE_INVALID'));
    }
  });

  it('passes on what the template raises, and stops large ranges and endless recursion', () => {
    expect(() => run("{{ raise_exception('roles must alternate') }}")).toThrow('roles must alternate');
    expect(() => run('{{ range(100000000) }}')).toThrow('100000000');
    expect(() => run('{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}')).toThrow();
  });
});
