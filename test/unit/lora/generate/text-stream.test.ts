import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TextStream } from '../../../../lora/generate/text-stream.ts';

/** A tokenizer with one token for each byte, and a special token 256. */
const bytes = {
  decode: (ids: readonly number[], { special = false } = {}) =>
    ids.map((id) => id).filter((id) => id < 256).length === ids.length
      ? Buffer.from(ids).toString()
      : Buffer.concat(
          ids.map((id) => (id < 256 ? Buffer.of(id) : Buffer.from(special ? '<end>' : ''))),
        ).toString(),
};

function stream(text: string, stops: readonly string[] = []): { pieces: string[]; stopped: boolean } {
  const texts = new TextStream(bytes, { stops });
  const pieces: string[] = [];
  for (const byte of Buffer.from(text)) {
    pieces.push(texts.add(byte));
    if (texts.stopped) return { pieces, stopped: true };
  }
  pieces.push(texts.finish());
  return { pieces, stopped: texts.stopped };
}

describe('turning tokens into text', () => {
  it('never ends a piece within a character', () => {
    expect(stream('aß€😀').pieces).toEqual(['a', '', 'ß', '', '', '€', '', '', '', '😀', '']);
  });

  it('gives the same text as decoding all tokens at once', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 256 }), { maxLength: 30 }), (ids) => {
        const texts = new TextStream(bytes);
        const text = ids.map((id) => texts.add(id)).join('') + texts.finish();
        expect(text).toBe(bytes.decode(ids));
      }),
    );
  });

  it('leaves out special tokens, or keeps them', () => {
    for (const special of [false, true]) {
      const texts = new TextStream(bytes, { special });
      const text = [65, 256, 66].map((id) => texts.add(id)).join('') + texts.finish();
      expect(text).toBe(special ? 'A<end>B' : 'AB');
    }
  });

  it('ends before the first stop text, and holds back what may begin one', () => {
    expect(stream('one two', [' t', 'wo'])).toEqual({ pieces: ['o', 'n', 'e', '', ''], stopped: true });
    expect(stream('ababac', ['abac'])).toEqual({ pieces: ['', '', '', 'ab', '', ''], stopped: true });
    expect(stream('ab', ['abc'])).toEqual({ pieces: ['', '', 'ab'], stopped: false });
  });

  it('finds every stop text, wherever tokens end', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'ß'), minLength: 0, maxLength: 12 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'ß'), minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(letters, fc.array(stop, { minLength: 1, maxLength: 3 }), (text, stops) => {
        const { pieces, stopped } = stream(text, stops);
        const ends = stops.map((s) => [text.indexOf(s), text.indexOf(s) + s.length] as const);
        const found = ends.filter(([at]) => at >= 0);
        expect(stopped).toBe(found.length > 0);
        // The stop string that ends first stops the stream. If several end at the same place, the longest one counts.
        const first = Math.min(...found.map(([, end]) => end));
        const cut = Math.min(...found.filter(([, end]) => end === first).map(([at]) => at), text.length);
        expect(pieces.join('')).toBe(text.slice(0, cut));
      }),
    );
  });
});
