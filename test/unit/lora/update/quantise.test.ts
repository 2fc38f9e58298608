import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Levels,
  lloydLevels,
  magnitudesOf,
  OUT_OF_RANGE,
  RATIO_STEPS,
} from '../../../../lora/update/quantise.ts';
import { scaleValue } from '../../../../lora/update/scale.ts';
import { randomValues } from '../../../utils/swarm/updates.ts';

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
