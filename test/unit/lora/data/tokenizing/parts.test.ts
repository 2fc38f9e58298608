/** Edge cases of single parts that whole tokenizers rarely reach. Expected values: the tokenizers library 0.23.3. */
import { describe, expect, it } from 'vitest';
import { decoderOf } from '../../../../../lora/data/tokenizing/decoders.ts';
import { preTokenizerOf } from '../../../../../lora/data/tokenizing/pre-tokenizers.ts';

describe('a pre-tokenizer', () => {
  it.each([
    ['MergedWithPrevious', false, ['-', '-', 'a-', '-', 'b-']],
    ['MergedWithPrevious', true, ['-', '-a', '-', '-b', '-']],
    ['MergedWithNext', false, ['-', '-a', '-', '-b', '-']],
    ['MergedWithNext', true, ['-', '-', 'a-', '-', 'b-']],
    ['Contiguous', false, ['--', 'a', '--', 'b', '-']],
    ['Contiguous', true, ['--', 'a', '--', 'b', '-']],
    ['Removed', false, ['a', 'b']],
    ['Removed', true, ['-', '-', '-', '-', '-']],
    ['Isolated', false, ['-', '-', 'a', '-', '-', 'b', '-']],
    ['Isolated', true, ['-', '-', 'a', '-', '-', 'b', '-']],
  ])('splits with behaviour %s (inverted: %s)', (behavior, invert, words) => {
    const split = preTokenizerOf({ type: 'Split', pattern: { String: '-' }, behavior, invert });
    expect(split('--a--b-', true)).toEqual(words);
  });

  it.each([
    ['  a  b ', ['▁', '▁a', '▁', '▁b', '▁']],
    ['▁x', ['▁x']],
    [' ', ['▁']],
  ])('marks spaces and splits at them: %j', (text, words) => {
    const split = preTokenizerOf({
      type: 'Metaspace',
      replacement: '▁',
      prepend_scheme: 'always',
      split: true,
    });
    expect(split(text, true)).toEqual(words);
  });
});

describe('a decoder', () => {
  const decode = (decoder: object, tokens: readonly string[]): string => decoderOf(decoder)(tokens).join('');

  it.each([
    ['always', 'ab c  '],
    ['first', 'ab c  '],
    ['never', '  a b c  '],
  ])('restores marked spaces with prepend scheme %s', (scheme, text) => {
    const decoder = { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme };
    expect(decode(decoder, ['▁▁a▁b', '▁c▁▁'])).toBe(text);
  });

  it('replaces each byte that is not UTF-8 with U+FFFD', () => {
    const tokens = ['<0xE4>', '<0xB8>', 'a', '<0xff>', '<0xF0>', '<0x9F>'];
    expect(decode({ type: 'ByteFallback' }, tokens)).toBe('\ufffd\ufffda\ufffd\ufffd\ufffd');
  });

  it('strips, also tokens that consist only of stripped characters', () => {
    const decoder = { type: 'Strip', content: ' ', start: 2, stop: 1 };
    expect(decode(decoder, ['   a  ', '  b '])).toBe(' a b');
    expect(decode(decoder, ['  '])).toBe('');
  });
});
