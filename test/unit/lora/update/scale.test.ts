import { expect, test } from 'vitest';
import { EMPTY_SCALE, MAXIMUM_SCALE_CODE, scaleCode, scaleValue } from '../../../../lora/update/scale.ts';

test('every code decodes to a normal positive number and encodes back to itself', () => {
  let previous = 0;
  for (let code = 1; code <= MAXIMUM_SCALE_CODE; code++) {
    const value = scaleValue(code);
    expect(value, `code ${code}`).toBeGreaterThan(previous);
    expect(scaleCode(value), `code ${code}`).toBe(code);
    previous = value;
  }
  expect(scaleValue(1)).toBe(2 ** -47 * (1 + 2 ** -7));
  expect(previous).toBe(2 ** 17 * (1 - 2 ** -8));
});

test('encodes a value as the nearest code, within one part in 256', () => {
  for (let exponent = -46; exponent <= 16; exponent++) {
    for (const fraction of [1, 1.001, 1.003, 1.004, 1.49, 1.51, 1.995]) {
      const value = fraction * 2 ** exponent;
      const code = scaleCode(value);
      for (const other of [code - 1, code, code + 1]) {
        const closer = Math.abs(scaleValue(other) - value) < Math.abs(scaleValue(code) - value) * (1 - 1e-6);
        expect(closer, `${value}: code ${other} is nearer than ${code}`).toBe(false);
      }
      expect(Math.abs(scaleValue(code) / value - 1)).toBeLessThanOrEqual(2 ** -8);
    }
  }
});

test('gives EMPTY_SCALE below the smallest scale, and more than the largest code above the largest scale', () => {
  expect(scaleCode(0)).toBe(EMPTY_SCALE);
  expect(scaleCode(1e-45)).toBe(EMPTY_SCALE);
  expect(scaleCode(2 ** -47)).toBe(EMPTY_SCALE);
  expect(scaleValue(EMPTY_SCALE)).toBe(0);
  expect(scaleCode(2 ** 17)).toBeGreaterThan(MAXIMUM_SCALE_CODE);
  expect(scaleCode(3e38)).toBeGreaterThan(MAXIMUM_SCALE_CODE);
  expect(scaleCode(1e300)).toBeGreaterThan(MAXIMUM_SCALE_CODE);
});
