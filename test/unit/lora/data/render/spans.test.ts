import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commonPrefix, tokeniseSpans } from '../../../../../lora/data/render/spans.ts';
import { loadTokenizer } from '../../../../../lora/data/tokenizer.ts';

const parts = [
  '<|im_end|>',
  '</s>',
  '\n',
  '\n\n',
  ' ',
  'The ',
  'capital',
  'cap',
  'ital',
  ' of',
  '好',
  '👩‍👩‍👧',
  'x',
  '.',
];

const isBeginning = (part: number[], whole: number[]) => commonPrefix(part, whole) === part.length;

for (const name of ['byte-level', 'sentence-piece']) {
  const tokenizer = await loadTokenizer(
    fileURLToPath(new URL(`../../../../fixtures/chat/${name}`, import.meta.url)),
  );
  const encode = (text: string) => tokenizer.encode(text, { special: false });

  describe(`spans with a ${name} tokenizer`, () => {
    it('start and end where the tokens of the text before them, tokenised alone, end', () => {
      const pieces = fc.array(fc.array(fc.constantFrom(...parts), { maxLength: 4 }), {
        minLength: 1,
        maxLength: 8,
      });
      fc.assert(
        fc.property(pieces, (lists) => {
          const texts = lists.map((list) => list.join(''));
          const text = texts.join('');
          const ends = texts.map((_, i) => texts.slice(0, i + 1).join('').length);
          const spans = ends.flatMap((end, i) => (i % 2 === 1 ? [{ start: ends[i - 1]!, end }] : []));
          const { ids, trained } = tokeniseSpans(text, spans, tokenizer);
          expect(ids).toEqual(encode(text));
          // Spaces on both sides of a boundary may merge into one token; such cases are skipped.
          fc.pre(ends.every((end) => isBeginning(encode(text.slice(0, end)), ids)));
          const expected = new Uint8Array(ids.length);
          const place = (end: number) => encode(text.slice(0, end)).length;
          for (const { start, end } of spans) expected.fill(1, place(start), place(end));
          expect(trained).toEqual(expected);
        }),
        { numRuns: 500 },
      );
    });

    it('count the boundaries inside a token', () => {
      const text = 'The capital';
      for (let start = 1; start < text.length; start++) {
        const before = encode(text.slice(0, start));
        const inside = commonPrefix(before, encode(text)) < before.length;
        const { merged } = tokeniseSpans(text, [{ start, end: text.length }], tokenizer);
        expect(merged, text.slice(start)).toBe(inside ? 1 : 0);
      }
      expect(tokeniseSpans('The</s>', [{ start: 3, end: 7 }], tokenizer).merged).toBe(0);
    });
  });
}
