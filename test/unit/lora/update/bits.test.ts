import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytesToWords, peekBits, putBits, wordsToBytes } from '../../../../lora/update/bits.ts';

test('reads back every field at every bit position and width', () => {
  const field = fc.integer({ min: 1, max: 32 }).chain((width) =>
    fc.record({
      skip: fc.nat(70),
      width: fc.constant(width),
      value: fc.nat(2 ** 32 - 1).map((n) => n % 2 ** width),
    }),
  );
  fc.assert(
    fc.property(fc.array(field, { maxLength: 30 }), (fields) => {
      const bits = fields.reduce((sum, { skip, width }) => sum + skip + width, 0);
      const words = new Uint32Array(Math.ceil(bits / 32) + 1);
      let position = 0;
      for (const { skip, width, value } of fields) {
        putBits(words, position + skip, value, width);
        position += skip + width;
      }
      const bytes = new Uint8Array(Math.ceil(bits / 8));
      wordsToBytes(words, bytes);
      const read = bytesToWords(bytes);
      position = 0;
      for (const { skip, width, value } of fields) {
        position += skip;
        expect(peekBits(read, position) >>> (32 - width)).toBe(value);
        position += width;
      }
    }),
  );
});

test('puts the first bit into the highest bit of the first byte', () => {
  const words = new Uint32Array(2);
  putBits(words, 0, 1, 1);
  putBits(words, 30, 0b111, 3);
  const bytes = new Uint8Array(5);
  wordsToBytes(words, bytes);
  expect([...bytes]).toEqual([0x80, 0, 0, 0x03, 0x80]);
});
