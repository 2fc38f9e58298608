import { describe, expect, test } from 'vitest';
import { compare, LEAVE_ONE_OUT, meanLoss, passGate } from '../../../../coordinator/merge/gate.ts';
import type { RowLoss } from '../../../../lora/train/step.ts';

const TOKENS = 10;

function rows(losses: readonly number[]): RowLoss[] {
  return losses.map((loss) => ({ lossSum: loss * TOKENS, tokens: TOKENS }));
}

describe('compare', () => {
  test('pairs rows: what is hard about a row cancels out', () => {
    const before = rows([1, 5, 9]);
    const { worsening, standardError, passes } = compare(before, rows([1.1, 5.1, 9.1]), 0.002);
    expect(worsening).toBeCloseTo(0.1);
    expect(standardError).toBeCloseTo(0);
    expect(passes).toBe(false);
  });

  test('lets pass what is within the tolerance of the loss', () => {
    expect(compare(rows([5, 5]), rows([5.009, 5.009]), 0.002).passes).toBe(true);
    expect(compare(rows([5, 5]), rows([5.011, 5.011]), 0.002).passes).toBe(false);
  });

  test('lets pass what is within two standard errors', () => {
    const before = rows([5, 5, 5, 5]);
    // Mean 0.05, standard deviation 0.1 over four rows: standard error 0.05.
    const after = rows([5.15, 5.05, 4.95 - 0.05, 5.1]);
    const { worsening, standardError, passes } = compare(before, after, 0);
    expect(worsening).toBeLessThanOrEqual(2 * standardError);
    expect(passes).toBe(true);
  });

  test('losses that are no number never pass', () => {
    expect(compare(rows([5, 5]), rows([5, Number.NaN]), 1).passes).toBe(false);
    expect(compare(rows([5, 5]), rows([5, Number.POSITIVE_INFINITY]), 1).passes).toBe(false);
  });

  test('rows without predicted tokens do not count', () => {
    const empty = { lossSum: 0, tokens: 0 };
    expect(compare([...rows([5]), empty], [...rows([4]), empty], 0).passes).toBe(true);
    expect(meanLoss([...rows([4, 6]), empty])).toBe(5);
    expect(meanLoss([empty])).toBeNull();
  });
});

/** Updates are what they add to the loss; a merge is their mean times the rate. */
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

describe('gate', () => {
  test('takes all updates at the full rate when that passes', async () => {
    const { result, merges } = await run([-0.1, -0.2]);
    expect(result).toMatchObject({ accepted: true, rate: 1, leftOut: null });
    expect(merges).toHaveLength(1);
  });

  test('then all at half the rate', async () => {
    const { result, merges } = await run([0.008, 0.008]);
    expect(result).toMatchObject({ accepted: true, rate: 0.5, leftOut: null });
    expect(merges.map(({ rate }) => rate)).toEqual([1, 0.5]);
  });

  test('then without the one whose absence helps most', async () => {
    const { result } = await run([-0.1, 4, 0.001, -0.2]);
    expect(result).toMatchObject({ accepted: true, rate: 1, leftOut: 4 });
  });

  test('then nothing', async () => {
    const { result, merges } = await run([3, 4, 5]);
    expect(result.accepted).toBe(false);
    expect(merges).toHaveLength(2 + 3);
  });

  test('a single bad update is refused without trying none at all', async () => {
    const { result, merges } = await run([3]);
    expect(result.accepted).toBe(false);
    expect(merges).toHaveLength(2);
  });

  test('tries a bounded number of updates, the most suspicious first', async () => {
    const sources = Array.from({ length: 40 }, (_, i) => (i === 30 ? 90 : i / 1e6));
    const { result, merges } = await run(sources, (all) => all.toSorted((a, b) => b - a));
    expect(result).toMatchObject({ accepted: true, leftOut: 90 });
    expect(merges).toHaveLength(2 + LEAVE_ONE_OUT);
  });

  test('what a merge has left out already is not tried, and does not come back', async () => {
    const { merges } = await run([3, 4, 1000], (all) => all.filter((source) => source !== 1000));
    expect(merges.slice(2).map(({ sources }) => sources)).toEqual([[4], [3]]);
  });

  test('a better of two that both fail is remembered even when one is no number', async () => {
    const { result } = await run([Number.POSITIVE_INFINITY, -0.1]);
    expect(result).toMatchObject({ accepted: true, leftOut: Number.POSITIVE_INFINITY });
  });
});
