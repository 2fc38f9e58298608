import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changeText, probabilityText } from '../../../../../lora/evaluate/compare/compare.ts';
import {
  bootstrapDifference,
  mcnemar,
  meanDifference,
  type PairedDifference,
  ratioDifference,
} from '../../../../../lora/evaluate/compare/paired.ts';
import { statisticOf } from '../../../../../lora/evaluate/metrics/aggregate.ts';

describe('paired differences', () => {
  it("have McNemar's exact probability for right and wrong answers", () => {
    expect(mcnemar(5, 1)).toBeCloseTo(0.21875, 12);
    expect(mcnemar(0, 0)).toBe(1);
    expect(mcnemar(10, 0)).toBeCloseTo(2 / 1024, 12);
    expect(mcnemar(2000, 0)).toBeLessThan(1e-6);
    const { difference, standardError, p } = meanDifference([0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]);
    expect([difference, p]).toEqual([1 / 3, mcnemar(3, 1)]);
    expect(standardError).toBeCloseTo(0.333333, 6);
  });

  it('have a normal interval for other values', () => {
    const first = [-1, -2, -3, -4];
    const { difference, low, high, p } = meanDifference(first, [-0.5, -1, -2.5, -3]);
    expect(difference).toBeCloseTo(0.75, 12);
    expect([low, high]).toEqual([expect.closeTo(0.467106, 5), expect.closeTo(1.032894, 5)]);
    expect(p).toBeLessThan(0.001);
    expect(meanDifference(first, first)).toMatchObject({ difference: 0, p: 1 });
    expect(meanDifference([1], [2]).p).toBe(1);
  });

  it('of weighted scores are those of a ratio', () => {
    const first = [
      [-10, 2],
      [-30, 5],
      [-20, 3],
    ] as const;
    const second = [
      [-9, 2],
      [-27, 5],
      [-19, 3],
    ] as const;
    const { difference, standardError } = ratioDifference(first, second);
    expect(difference).toBeCloseTo(0.5, 12);
    // The differences 1, 3 and 1 minus 0.5 × weight leave the residuals 0, 0.5 and −0.5, whose squares sum to 0.5. The
    // standard error is √(n / (n − 1) · 0.5) divided by the total weight, with n = 3 and a total weight of 10.
    expect(standardError).toBeCloseTo(Math.sqrt(0.75) / 10, 12);
  });

  it('of other statistics come from a bootstrap with the same documents for both', () => {
    const values = Array.from({ length: 60 }, (_, i) => [i % 2, i % 3 === 0 ? 1 : 0] as const);
    const same = statisticOf('f1', values);
    expect(bootstrapDifference(same, same, 60)).toMatchObject({ difference: 0, standardError: 0, p: 1 });
    const right = statisticOf(
      'f1',
      values.map(([gold]) => [gold, gold] as const),
    );
    const { difference, low, p } = bootstrapDifference(same, right, 60);
    expect(low).toBeGreaterThan(0.3);
    expect(difference).toBeGreaterThan(low);
    // All of the 2,000 samples are above 0.
    expect(p).toBeCloseTo(2 / 2001, 12);
  });

  it('have an exact interval for right and wrong answers', () => {
    const first = Array.from({ length: 100 }, (_, i) => (i < 2 ? 1 : 0));
    const second = Array.from({ length: 100 }, (_, i) => (i >= 2 && i < 7 ? 1 : 0));
    const { difference, low, high } = meanDifference(first, second);
    // R: binom.test(5, 7) has the interval 0.2904209 to 0.9633074.
    expect(difference).toBeCloseTo(0.03, 12);
    expect(low).toBeCloseTo(0.07 * (2 * 0.2904209 - 1), 7);
    expect(high).toBeCloseTo(0.07 * (2 * 0.9633074 - 1), 7);
    expect(meanDifference([1, 0], [1, 0])).toMatchObject({ difference: 0, low: 0, high: 0, p: 1 });
  });

  it('have an interval that contains 0 exactly if the p-value is above 0.05', () => {
    const agrees = ({ low, high, p }: PairedDifference): boolean => (low <= 0 && high >= 0) === p > 0.05;
    const bit = fc.constantFrom(0, 1);
    const documents = fc.array(fc.tuple(bit, bit, bit, fc.double({ min: -9, max: 0, noNaN: true })), {
      minLength: 5,
      maxLength: 40,
    });
    fc.assert(
      fc.property(documents, (all) => {
        const f1 = (column: 1 | 2) =>
          statisticOf(
            'f1',
            all.map((one) => [one[0], one[column]] as const),
          );
        const [first, second] = [all.map((one) => one[1]), all.map((one) => one[2])];
        expect(agrees(meanDifference(first, second))).toBe(true);
        expect(
          agrees(
            meanDifference(
              first,
              all.map((one) => one[3]),
            ),
          ),
        ).toBe(true);
        expect(agrees(bootstrapDifference(f1(1), f1(2), all.length))).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});

it('prints a change with the bounds of its interval', () => {
  const text = (change: number, low: number, high: number) => changeText({ change, low, high, unit: '%' });
  expect(text(134.2, 1.412, 440.3)).toBe('+134 % (+1.4 to +440)');
  expect(text(-41.88, -50.71, -31.52)).toBe('−41.9 % (−51 to −32)');
  expect(text(0.01234, -0.00021, 99.96)).toBe('+0.0123 % (−2.1e-4 to +100)');
  expect(text(2.5e74, 0, 1e80)).toBe('+2.50e74 % (0 to +1.0e80)');
  expect(text(13.33, -2.667, 13.42)).toBe('+13.3 % (−2.67 to +13.4)');
  expect(text(3, Number.NaN, Number.NaN)).toBe('+3.00 % (unknown)');
  expect([probabilityText(0.03125), probabilityText(1e-9)]).toEqual(['0.0313', '< 0.0001']);
});
