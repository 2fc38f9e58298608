import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeFloats, encodeFloats } from '../../../../../lora/models/weights/dtypes.ts';

const words = (...values: number[]) => new Uint8Array(Uint16Array.from(values).buffer);
const encoded = (dtype: 'F16' | 'BF16', ...values: number[]) => [
  ...new Uint16Array(encodeFloats(Float32Array.from(values), dtype).buffer),
];

test('converts known halves', () => {
  // IEEE 754-2008 binary16: 1, -2, largest, smallest normal, smallest subnormal, 1/3, infinity, -0
  const bits = [0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x3555, 0x7c00, 0x8000];
  const values = [1, -2, 65504, 2 ** -14, 2 ** -24, 0.333251953125, Number.POSITIVE_INFINITY, -0];
  expect([...decodeFloats(words(...bits), 'F16')]).toEqual(values);
  expect(encoded('F16', ...values)).toEqual(bits);
  expect(decodeFloats(words(0x7e00), 'F16')[0]).toBeNaN();
});

test('halves round to nearest, ties to even, and overflow to infinity', () => {
  const step = 2 ** -10;
  expect(encoded('F16', 1 + step / 2, 1 + 1.5 * step, 1 + 0.51 * step)).toEqual([0x3c00, 0x3c02, 0x3c01]);
  expect(encoded('F16', 65519.99, 65520, -1e9)).toEqual([0x7bff, 0x7c00, 0xfc00]);
  expect(encoded('F16', 2 ** -25, 1.5 * 2 ** -25, 3 * 2 ** -25, 2 ** -26)).toEqual([0, 1, 2, 0]);
});

test('converts known bfloat16 values, rounded to nearest, ties to even', () => {
  expect([...decodeFloats(words(0x3f80, 0xc000, 0x7f80), 'BF16')]).toEqual([1, -2, Number.POSITIVE_INFINITY]);
  expect(encoded('BF16', 1, 1 + 2 ** -8, 1 + 3 * 2 ** -8)).toEqual([0x3f80, 0x3f80, 0x3f82]);
  expect(decodeFloats(encodeFloats(Float32Array.of(Number.NaN), 'BF16'), 'BF16')[0]).toBeNaN();
});

test.each(['F16', 'BF16'] as const)('every %s value survives a round trip', (dtype) => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i);
  const values = decodeFloats(new Uint8Array(all.buffer), dtype);
  const back = new Uint16Array(encodeFloats(values, dtype).buffer);
  for (let i = 0; i < all.length; i++) {
    if (Number.isNaN(values[i]!)) continue;
    if (back[i] !== i) expect.fail(`${dtype} ${i} became ${back[i]}`);
  }
});

test.each([
  ['F16', 2 ** -11],
  ['BF16', 2 ** -8],
] as const)('%s is off by at most half a unit in the last place', (dtype, relative) => {
  fc.assert(
    fc.property(fc.float({ min: -60000, max: 60000, noNaN: true }), (value) => {
      const [back] = decodeFloats(encodeFloats(Float32Array.of(value), dtype), dtype);
      expect(Math.abs(back! - value)).toBeLessThanOrEqual(Math.max(Math.abs(value) * relative, 2 ** -25));
    }),
  );
});

test.each(['F32', 'F16', 'BF16'] as const)('%s bytes may start at any offset, also in a Buffer', (dtype) => {
  const bytes = encodeFloats(Float32Array.of(1.5, -3), dtype);
  const shifted = Buffer.concat([Buffer.alloc(1), bytes]).subarray(1);
  expect([...decodeFloats(shifted, dtype)]).toEqual([1.5, -3]);
  expect([...decodeFloats(new Uint8Array([0, ...bytes]).subarray(1), dtype)]).toEqual([1.5, -3]);
});
