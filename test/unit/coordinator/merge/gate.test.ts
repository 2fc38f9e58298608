import { describe, expect, test } from 'vitest';
import { compare, LEAVE_ONE_OUT, meanLoss, passGate } from '../../../../coordinator/merge/gate.ts';
import type { RowLoss } from '../../../../lora/train/step.ts';

const TOKENS = 10;

function rows(losses: readonly number[]): RowLoss[] {
  return losses.map((loss) => ({ lossSum: loss * TOKENS, tokens: TOKENS }));
}

describe('compare', () => {
  test('pairs rows, so that their difficulty cancels out', () => {
    const before = rows([1, 5, 9]);
    const { worsening, standardError, passes } = compare(before, rows([1.1, 5.1, 9.1]), 0.002);
    expect(worsening).toBeCloseTo(0.1);
    expect(standardError).toBeCloseTo(0);
    expect(passes).toBe(false);
  });

  test('passes a worsening within the tolerance', () => {
    expect(compare(rows([5, 5]), rows([5.009, 5.009]), 0.002).passes).toBe(true);
    expect(compare(rows([5, 5]), rows([5.011, 5.011]), 0.002).passes).toBe(false);
  });

  test('passes a worsening within two standard errors', () => {
    const before = rows([5, 5, 5, 5]);
    // Mean 0.05, standard deviation 0.1 over four rows: standard error 0.05.
    const after = rows([5.15, 5.05, 4.95 - 0.05, 5.1]);
    const { worsening, standardError, passes } = compare(before, after, 0);
    expect(worsening).toBeLessThanOrEqual(2 * standardError);
    expect(passes).toBe(true);
  });

  test('never passes a loss that is not a number', () => {
    expect(compare(rows([5, 5]), rows([5, Number.NaN]), 1).passes).toBe(false);
    expect(compare(rows([5, 5]), rows([5, Number.POSITIVE_INFINITY]), 1).passes).toBe(false);
  });

  test('ignores rows without predicted tokens', () => {
    const empty = { lossSum: 0, tokens: 0 };
    expect(compare([...rows([5]), empty], [...rows([4]), empty], 0).passes).toBe(true);
    expect(meanLoss([...rows([4, 6]), empty])).toBe(5);
    expect(meanLoss([empty])).toBeNull();
  });
});

/** An update is the loss that it adds. A merge is the mean of updates times the rate. */
async function run(sources: readonly number[], suspects?: (sources: readonly number[]) => number[]) {
  const merges: { sources: readonly number[]; rate: number }[] = [];
  const result = await passGate<number, number>({
    sources,
    rate: 1,
    tolerance: 0.001,
    before: rows([5, 5]),
    merge: async (some, rate) => {
      merges.push({ sources: some, rate });
      return rate * (some.reduce((sum, one) => sum + one, 0) / some.length);
    },
    evaluate: async (worse) => rows([5 + worse, 5 + worse]),
    suspects: (_merged, all) => suspects?.(all) ?? [...all],
  });
  return { result, merges };
}

describe('passGate', () => {
  test('takes all updates at the full rate if that passes', async () => {
    const { result, merges } = await run([-0.1, -0.2]);
    expect(result).toMatchObject({ accepted: true, rate: 1, leftOut: null });
    expect(merges).toHaveLength(1);
  });

  test('then takes all updates at half the rate', async () => {
    const { result, merges } = await run([0.008, 0.008]);
    expect(result).toMatchObject({ accepted: true, rate: 0.5, leftOut: null });
    expect(merges.map(({ rate }) => rate)).toEqual([1, 0.5]);
  });

  test('then leaves out the update whose absence helps most', async () => {
    const { result } = await run([-0.1, 4, 0.001, -0.2]);
    expect(result).toMatchObject({ accepted: true, rate: 1, leftOut: 4 });
  });

  test('refuses the round when nothing passes', async () => {
    const { result, merges } = await run([3, 4, 5]);
    expect(result.accepted).toBe(false);
    expect(merges).toHaveLength(2 + 3);
  });

  test('refuses a single bad update without trying an empty merge', async () => {
    const { result, merges } = await run([3]);
    expect(result.accepted).toBe(false);
    expect(merges).toHaveLength(2);
  });

  test('leaves out a bounded number of updates in turn, the most suspicious first', async () => {
    const sources = Array.from({ length: 40 }, (_, i) => (i === 30 ? 90 : i / 1e6));
    const { result, merges } = await run(sources, (all) => all.toSorted((a, b) => b - a));
    expect(result).toMatchObject({ accepted: true, leftOut: 90 });
    expect(merges).toHaveLength(2 + LEAVE_ONE_OUT);
  });

  test('does not bring back the outliers of the merge', async () => {
    const { merges } = await run([3, 4, 1000], (all) => all.filter((source) => source !== 1000));
    expect(merges.slice(2).map(({ sources }) => sources)).toEqual([[4], [3]]);
  });

  test('keeps the better of two failures when the other is not a number', async () => {
    const { result } = await run([Number.POSITIVE_INFINITY, -0.1]);
    expect(result).toMatchObject({ accepted: true, leftOut: Number.POSITIVE_INFINITY });
  });
});
