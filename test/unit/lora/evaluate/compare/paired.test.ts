import { describe, expect, it } from 'vitest';
import { changeText, probabilityText } from '../../../../../lora/evaluate/compare/compare.ts';
import {
  bootstrapDifference,
  mcnemar,
  meanDifference,
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
    expect(p).toBeLessThan(1e-6);
  });
});

it('prints a change with as many digits as its interval justifies', () => {
  const text = (change: number, margin: number) =>
    changeText({ change, low: change - margin, high: change + margin, unit: '%' });
  expect(text(12.345, 2.13)).toBe('12.3 ± 2.1 %');
  expect(text(-41.88, 27)).toBe('-42 ± 27 %');
  expect(text(0.01234, 0.0021)).toBe('0.0123 ± 0.0021 %');
  expect(text(3, 0)).toBe('3.0 ± 0.0 %');
  expect(text(3, Number.NaN)).toBe('3.0 ± ? %');
  expect([probabilityText(0.03125), probabilityText(1e-9)]).toEqual(['0.0313', '< 0.0001']);
});
