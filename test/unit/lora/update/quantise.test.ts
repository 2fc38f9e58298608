import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  EMPTY_SCALE,
  type Levels,
  lloydLevels,
  MAXIMUM_SCALE_CODE,
  magnitudesOf,
  NON_FINITE,
  OUT_OF_RANGE,
  RATIO_STEPS,
  scaleCode,
  scaleValue,
  selectLargest,
} from '../../../../lora/update/quantise.ts';
import { randomValues, VALUE_KINDS } from '../../../utils/swarm/updates.ts';

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

const select = (values: Float32Array, start: number, length: number, kept: number) => {
  const positions = new Uint32Array(4096);
  const count = selectLargest(new Uint32Array(values.buffer), start, length, kept, positions);
  return count === NON_FINITE ? NON_FINITE : [...positions.subarray(0, count)];
};

/** Selects by sorting: largest magnitudes first, the lower position first among equal ones. */
const expected = (values: Float32Array, start: number, length: number, kept: number) =>
  [...values.subarray(start, start + length).keys()]
    .sort((a, b) => Math.abs(values[start + b]!) - Math.abs(values[start + a]!) || a - b)
    .slice(0, kept)
    .sort((a, b) => a - b);

test('selects the same values as sorting, for every distribution and number kept', () => {
  const cases = fc.record({
    kind: fc.constantFrom(...VALUE_KINDS),
    seed: fc.integer(),
    start: fc.nat(9),
    length: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 51, max: 4096 })),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(cases, ({ kind, seed, start, length, share }) => {
      const kept = Math.max(1, Math.round(share * length));
      const values = randomValues(start + length, kind, seed);
      expect(select(values, start, length, kept)).toEqual(expected(values, start, length, kept));
    }),
    { numRuns: 150 },
  );
});

test('orders neighbouring floats, subnormal floats and signed zeros correctly', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, -0, 1e-45, -3e-45, 1.17549435e-38, 1, -1.0000001, 1.0000002), {
        minLength: 1,
        maxLength: 60,
      }),
      fc.nat(59),
      (list, some) => {
        const values = Float32Array.from(list);
        const kept = 1 + (some % values.length);
        expect(select(values, 0, values.length, kept)).toEqual(expected(values, 0, values.length, kept));
      },
    ),
  );
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
  'refuses %s at any position',
  (bad) => {
    for (const position of [0, 100, 4095]) {
      const values = randomValues(4096, 'normal', 1);
      values[position] = bad;
      expect(select(values, 0, 4096, 64), `at ${position}`).toBe(NON_FINITE);
    }
  },
);

const levelsOf = (list: number[]) => {
  const magnitudes = magnitudesOf(list.length);
  magnitudes.values.set(list);
  const levels: Levels = { scale: 0, ratio: 0, threshold: 0 };
  lloydLevels(magnitudes, list.length, levels);
  return { ...levels, patterns: [...magnitudes.patterns] };
};

const error = (magnitudes: number[], upper: number, lower: number) =>
  magnitudes.reduce((sum, m) => sum + Math.min((m - upper) ** 2, (m - lower) ** 2), 0);

/** Finds the optimal two levels: tries every split of the sorted magnitudes, with each side at its mean. */
function bestError(magnitudes: number[]): number {
  const sorted = [...magnitudes].sort((a, b) => a - b);
  const mean = (list: number[]) => list.reduce((sum, m) => sum + m, 0) / Math.max(1, list.length);
  return Math.min(
    ...sorted.map((_, split) =>
      error(sorted, mean(sorted.slice(split)), split ? mean(sorted.slice(0, split)) : 1e9),
    ),
  );
}

test.each([
  ['normal', 1.1],
  ['heavy', 1.15],
] as const)('comes close to the best two levels on the largest of %s values', (kind, most) => {
  for (const kept of [64, 256, 512]) {
    let found = 0;
    let best = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const list = [...randomValues(4096, kind, seed)].map(Math.abs).sort((a, b) => b - a);
      const { scale, ratio } = levelsOf(list.slice(0, kept));
      const upper = scaleValue(scale);
      found += error(list.slice(0, kept), upper, (upper * ratio) / RATIO_STEPS);
      best += bestError(list.slice(0, kept));
    }
    // Lloyd's algorithm stops early and in a local minimum. Then scale and ratio are rounded.
    expect(found / best, `${kept} kept`).toBeLessThanOrEqual(most);
  }
});

test('uses both levels, or only the upper level with ratio 0, as the decoder requires', () => {
  const magnitude = fc.oneof(
    fc.constantFrom(0, 1, 1.001, 1000),
    fc.double({ min: 0, max: 1e5, noNaN: true }),
  );
  fc.assert(
    fc.property(fc.array(magnitude, { minLength: 1, maxLength: 80 }), (list) => {
      const { scale, ratio, threshold, patterns } = levelsOf(list);
      if (scale === 0) return;
      expect(patterns.some((pattern) => pattern > threshold)).toBe(true);
      if (ratio > 0) expect(patterns.some((pattern) => pattern <= threshold)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test('uses one level for equal magnitudes and none for zeros, and refuses huge magnitudes', () => {
  expect(levelsOf([3, 3, 3])).toMatchObject({ ratio: 0, threshold: -1 });
  expect(scaleValue(levelsOf([3, 3, 3]).scale)).toBe(3);
  expect(levelsOf([0, 0]).scale).toBe(0);
  expect(levelsOf([1, 3e5]).scale).toBe(OUT_OF_RANGE);
});
