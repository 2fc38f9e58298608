import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LiteralProblem, literalEval } from '../../../../../lora/evaluate/python/literal.ts';
import { PythonRandom } from '../../../../../lora/evaluate/python/random.ts';
import { PatternProblem, PythonPattern } from '../../../../../lora/evaluate/python/regex.ts';
import { Float, fromJson, isEqual, repr } from '../../../../../lora/evaluate/python/values.ts';
import { TemplateProblem } from '../../../../../lora/evaluate/templates/problem.ts';
import { Template } from '../../../../../lora/evaluate/templates/template.ts';

const parts = JSON.parse(
  readFileSync(new URL('../../../../fixtures/lm-eval/parts.json', import.meta.url), 'utf8'),
);

interface RandomCase {
  seed: number;
  numbers: number[];
  samples: number[][];
  choices: number[];
}

describe('random numbers of CPython 3.11', () => {
  it.each(parts.random as RandomCase[])('has the numbers of seed $seed', (expected) => {
    const random = new PythonRandom(expected.seed);
    expect([random.random(), random.random(), random.random()]).toEqual(expected.numbers.slice(0, 3));
    for (let i = 0; i < 698; i++) random.random();
    expect([random.random(), random.random()]).toEqual(expected.numbers.slice(3));
    const sizes = [
      [3, 2],
      [21, 5],
      [22, 5],
      [30, 6],
      [85, 6],
      [86, 6],
      [1000, 20],
      [7, 7],
    ] as const;
    const samples = sizes.map(([n, k]) => random.sample([...new Array(n).keys()], k));
    expect(samples).toEqual(expected.samples);
    const choices = new Uint32Array(10);
    random.choices(12, choices);
    expect([...choices]).toEqual(expected.choices);
  });
});

describe('templates', () => {
  const document = fromJson(parts.doc) as Record<string, never>;
  it.each(parts.templates as { template: string; text: string }[])(
    'renders $template',
    ({ template, text }) => {
      expect(new Template(template).render(document)).toBe(text);
    },
  );

  it.each([
    '{{missing}}',
    '{{text.missing}}',
    '{{list[9]}}',
    '{{text|shuffle}}',
    '{{text.encode()}}',
    "{{'a' + 1}}",
  ])('refuses %s', (template) => {
    expect(() => new Template(template).render(document)).toThrow();
  });
});

describe('a template whose values grow without limit is refused', () => {
  const doubled = `{% set a=['x'] %}${'{% set a=[a,a] %}'.repeat(30)}`;
  const nested = `{% set a=['x'] %}${'{% set a=[a] %}'.repeat(2000)}`;
  it.each([
    '{{ [] * 4000000000 }}',
    "{{ '' * 4000000000 }}",
    `${doubled}{{ a }}`,
    `${doubled}{{ a == a }}`,
    `${doubled}{{ [a] | string }}`,
    `${nested}{{ a }}`,
    "{{ ('a'*1000000) | replace('a', 'b'*1000000) }}",
    "{{ '1'.zfill(1000000000) }}",
    `{{ ${'1+'.repeat(30_000)}1 }}`,
    `{% set t='x' * 1000000 %}{{ ${'[t]+'.repeat(20)}[] }}`,
  ])('%#', (template) => {
    expect(() => new Template(template).render({})).toThrow(TemplateProblem);
  });
});

describe('literals', () => {
  it.each(parts.literals as { source: string; value: unknown }[])('reads $source', ({ source, value }) => {
    expect(isEqual(literalEval(source), fromJson(value))).toBe(true);
  });

  it.each(['', '[1', 'open("x")', "'a", "'\\UFFFFFFFF'", '1 +', 'x', '007', `${'['.repeat(99)}`])(
    'refuses %s',
    (source) => {
      expect(() => literalEval(source)).toThrow(LiteralProblem);
    },
  );
});

describe('patterns', () => {
  it.each(parts.patterns as { pattern: string; text: string; found: unknown[]; without: string }[])(
    'finds $pattern',
    ({ pattern, text, found, without }) => {
      const compiled = new PythonPattern(pattern);
      const groups = compiled.findAll(text);
      expect(groups.map((all) => (all.length === 1 ? all[0] : all))).toEqual(found);
      expect(compiled.removeAll(text)).toBe(without);
    },
  );

  it.each(['(?>a)', 'a*+', '(?x) a', '(?i:a)', '\\p{L}', '(', '[a'])('refuses %s', (pattern) => {
    expect(() => new PythonPattern(pattern)).toThrow(PatternProblem);
  });
});

it('reads escapes of eight digits in literals and patterns', () => {
  expect(literalEval("'\\U0001F600\\u00e9\\x41'")).toBe('😀éA');
  expect(new PythonPattern('\\U0001F600').findAll('a😀')).toEqual([['😀']]);
});

describe('a long number or pattern takes time in proportion to its length:', () => {
  const digits = '1'.repeat(1_000_000);
  it('a filter gives its default', () => {
    expect(new Template('{{ a|float(7) }} {{ a|int(8) }}').render({ a: `${digits}x` })).toBe('7 8');
    expect(new Template("{{ '-1'.zfill(4) }}{{ '7'.zfill(3) }}").render({})).toBe('-001007');
    expect(new Template('{{ "12."|float }} {{ " -1.5e1 "|int }}').render({})).toBe('12.0 -15');
  });

  it('a literal is refused', () => {
    expect(() => literalEval('0'.repeat(1_000_000))).toThrow(LiteralProblem);
    expect(() => literalEval(`[${'0'.repeat(4000)}.5e]`)).toThrow(LiteralProblem);
  });

  it('a pattern is translated', () => {
    const pattern = new PythonPattern(`${'(?:\\x41|{a)'.repeat(30_000)}😀[😀-😎]`);
    expect(pattern.source).toContain('😀');
    expect(new PythonPattern('😀\\x41{2}[^😀-😎]').findAll('😀AAx')).toEqual([['😀AAx']]);
  });
});

it('prints floats as Python does', () => {
  const printed = [1, 0.1, 1e16, 1.5e-5, 123456789.125, 1e-4, -0, 1e22].map((value) =>
    repr(new Float(value)),
  );
  expect(printed).toEqual(['1.0', '0.1', '1e+16', '1.5e-05', '123456789.125', '0.0001', '-0.0', '1e+22']);
});
