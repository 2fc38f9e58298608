import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  changeOf,
  DRIFT_LIMIT,
  judge,
  MIN_UNIT,
  meanLoss,
  NOISE_LIMIT,
  WORST_ROWS_DRIFT_LIMIT,
  WORST_ROWS_LIMIT,
} from '../../../../coordinator/merge/comparison.ts';
import {
  type GateResult,
  MAX_EVALUATIONS,
  type Person,
  passGate,
  REMOVED_SHARE,
} from '../../../../coordinator/merge/gate.ts';
import type { RowLoss } from '../../../../lora/train/step.ts';

const TOKENS = 10;

function rows(losses: readonly number[]): RowLoss[] {
  return losses.map((loss) => ({ lossSum: loss * TOKENS, tokens: TOKENS }));
}

function same(count: number, loss: number): RowLoss[] {
  return rows(Array.from({ length: count }, () => loss));
}

function passes(before: readonly RowLoss[], after: readonly RowLoss[], tolerance = 0.002): boolean {
  return judge({ before, lowest: null, after }, { tolerance }).passes;
}

describe('changeOf', () => {
  test('pairs rows, so that their difficulty cancels out', () => {
    const { worsening, standardError, worstRows } = changeOf(rows([1, 5, 9]), rows([1.1, 5.1, 9.1]))!;
    expect(worsening).toBeCloseTo(0.1 / 5);
    expect(standardError).toBeCloseTo(0);
    expect(worstRows).toBeCloseTo(0.1 / 5);
  });

  test('ignores rows without predicted tokens', () => {
    const empty = { lossSum: 0, tokens: 0 };
    expect(changeOf([...rows([5]), empty], [...rows([4]), empty])!.worsening).toBeCloseTo(-0.2);
    expect(changeOf([empty], [empty])).toBeNull();
    expect(meanLoss([...rows([4, 6]), empty])).toBe(5);
    expect(meanLoss([empty])).toBeNull();
  });

  test('takes shares of half a nat if the loss is lower, also if it is zero', () => {
    expect(changeOf(rows([0.05, 0.05]), rows([0.06, 0.06]))!.worsening).toBeCloseTo(0.01 / 0.5);
    expect(changeOf(rows([0, 0]), rows([0, 0]))!.worsening).toBe(0);
  });

  test('averages the worst sixteenth of the rows', () => {
    const after = Array.from({ length: 32 }, (_, i) => (i === 7 ? 9 : i === 20 ? 7 : 4));
    expect(changeOf(same(32, 4), rows(after))!.worstRows).toBeCloseTo((5 + 3) / 2 / 4);
  });
});

describe('judge', () => {
  test('passes a worsening within the tolerance', () => {
    expect(passes(rows([5, 5]), rows([5.009, 5.009]))).toBe(true);
    expect(passes(rows([5, 5]), rows([5.011, 5.011]))).toBe(false);
  });

  test('passes a worsening within two standard errors, up to the limit of the noise', () => {
    // The mean is worse by 0.4 %, and the standard error is 0.25 %.
    const noisy = (scale: number): RowLoss[] =>
      rows(Array.from({ length: 64 }, (_, i) => 5 + scale * (0.02 + (i % 2 === 0 ? 0.1 : -0.1))));
    expect(passes(same(64, 5), noisy(1))).toBe(true);
    expect(passes(same(64, 5), noisy(2))).toBe(false);
  });

  test('refuses three ruined rows of 64, although two standard errors would allow them', () => {
    const after = rows(Array.from({ length: 64 }, (_, i) => (i < 3 ? 4.5 + 20 : 4.5)));
    const { worsening, standardError } = changeOf(same(64, 4.5), after)!;
    expect(worsening).toBeGreaterThan(0.2);
    expect(worsening).toBeLessThan(2 * standardError);
    expect(passes(same(64, 4.5), after)).toBe(false);
  });

  test('refuses a few ruined rows although the mean improves', () => {
    const after = rows(Array.from({ length: 64 }, (_, i) => (i < 3 ? 6 : 4.4)));
    expect(changeOf(same(64, 4.5), after)!.worsening).toBeLessThan(0);
    expect(passes(same(64, 4.5), after)).toBe(false);
  });

  test('limits a worsening that is small in every round, against the checkpoint with the lowest loss', () => {
    const lowest = same(64, 5);
    let before = lowest;
    let rounds = 0;
    let drifted = false;
    while (rounds < 100) {
      const after = before.map(({ lossSum, tokens }) => ({ lossSum: lossSum * 1.00199, tokens }));
      const judgement = judge({ before, lowest, after }, { tolerance: 0.002 });
      if (!judgement.passes) {
        drifted = judgement.isDrifted;
        break;
      }
      before = after;
      rounds++;
    }
    expect(drifted).toBe(true);
    expect(rounds).toBe(9);
    expect(meanLoss(before)! / 5 - 1).toBeLessThanOrEqual(DRIFT_LIMIT * 0.002);
  });

  test('allows no drift in the last round of a job', () => {
    const drifted = { before: same(64, 5.02), lowest: same(64, 5), after: same(64, 5.02) };
    expect(judge(drifted, { tolerance: 0.002 }).passes).toBe(true);
    expect(judge(drifted, { tolerance: 0.002, isLast: true })).toMatchObject({
      passes: false,
      isDrifted: true,
    });
    expect(judge({ ...drifted, after: same(64, 5.009) }, { tolerance: 0.002, isLast: true }).passes).toBe(
      true,
    );
  });

  test('does not call a merge drifted that is also too bad for its parent', () => {
    const after = same(64, 6);
    expect(judge({ before: same(64, 5), lowest: same(64, 4.99), after }, { tolerance: 0.002 })).toMatchObject(
      {
        passes: false,
        isDrifted: false,
      },
    );
  });

  test('never passes a loss that is not a number', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(passes(rows([5, 5]), rows([5, bad]), 1)).toBe(false);
      const judgement = judge(
        { before: rows([5, 5]), lowest: rows([5, bad]), after: rows([5, 5]) },
        { tolerance: 1 },
      );
      expect(judgement.passes).toBe(false);
    }
  });

  test('never passes a merge beyond a limit, whatever the rows', () => {
    const loss = fc.double({ min: 0.01, max: 20, noNaN: true });
    const row = fc.record({
      lowest: loss,
      before: loss,
      change: fc.double({ min: -0.2, max: 0.4, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.array(row, { minLength: 1, maxLength: 100 }),
        fc.constantFrom(0, 0.0005, 0.002, 0.01),
        (some, tolerance) => {
          const before = rows(some.map(({ before }) => before));
          const lowest = rows(some.map((row) => row.lowest));
          const after = rows(some.map(({ before, change }) => before * (1 + change)));
          const judgement = judge({ before, lowest, after }, { tolerance });
          const unit = Math.max(tolerance, MIN_UNIT);
          const step = changeOf(before, after)!;
          const over = changeOf(lowest, after)!;
          if (judgement.passes) {
            expect(step.worsening).toBeLessThanOrEqual(NOISE_LIMIT * unit);
            expect(step.worstRows).toBeLessThanOrEqual(WORST_ROWS_LIMIT * unit);
            expect(over.worsening).toBeLessThanOrEqual(DRIFT_LIMIT * unit);
            expect(over.worstRows).toBeLessThanOrEqual(WORST_ROWS_DRIFT_LIMIT * unit);
          } else expect(judgement.reason).not.toBe('');
        },
      ),
    );
  });
});

/** An update. Its `harm` is the loss that a merge of this update alone would add. */
interface Fake {
  readonly harm: number;
  readonly weight?: number;
  readonly share?: number;
}

/**
 * Runs the gate. A merge raises the loss by the weighted mean of the harms of its updates, times the rate. Each update
 * belongs to a different person.
 */
async function run(
  sources: readonly Fake[],
  { lowest = null, time = Infinity }: { lowest?: readonly RowLoss[] | null; time?: number } = {},
) {
  const merges: { sources: readonly Fake[]; rate: number }[] = [];
  const result = await passGate<Fake, number>({
    sources,
    rate: 1,
    tolerance: 0.001,
    isLast: false,
    before: rows([5, 5]),
    lowest,
    merge: async (some, rate) => {
      merges.push({ sources: some, rate });
      const total = some.reduce((sum, { weight = 1 }) => sum + weight, 0);
      const harm = some.reduce((sum, { harm, weight = 1 }) => sum + harm * weight, 0) / total;
      return Number.isFinite(harm) ? rate * harm : null;
    },
    evaluate: async (worse) => rows([5 + worse, 5 + worse]),
    personsOf: () => persons(sources),
    hasTime: () => merges.length < time,
  });
  return { result, merges };
}

function persons(sources: readonly Fake[]): Person<Fake>[] {
  return sources
    .toSorted((a, b) => (a.share ?? 1) - (b.share ?? 1))
    .map((source) => ({
      sources: [source],
      weight: source.weight ?? 1,
      isSuspect: (source.share ?? 1) < 0.4,
    }));
}

function harmsLeftOut(result: GateResult<Fake, number>): number[] {
  expect(result.accepted).toBe(true);
  return result.accepted ? result.leftOut.map(({ harm }) => harm).sort((a, b) => a - b) : [];
}

describe('passGate', () => {
  test('takes all updates at the full rate if that passes', async () => {
    const { result, merges } = await run([{ harm: -0.1 }, { harm: -0.2 }]);
    expect(result).toMatchObject({ accepted: true, verdict: 'passed', rate: 1, leftOut: [] });
    expect(merges).toHaveLength(1);
  });

  test('takes all updates at half the rate before it removes a person who is no suspect', async () => {
    const { result, merges } = await run([{ harm: 0.008 }, { harm: 0.008 }]);
    expect(result).toMatchObject({ accepted: true, verdict: 'half-rate', rate: 0.5, leftOut: [] });
    expect(merges.map(({ rate }) => rate)).toEqual([1, 0.5]);
  });

  test('removes suspects first, the most suspicious one before the others', async () => {
    const { result, merges } = await run([
      { harm: -0.1 },
      { harm: 0.15, share: 0.1 },
      { harm: 0.12, share: 0 },
      { harm: -0.1 },
      { harm: -0.1 },
    ]);
    expect(result).toMatchObject({ accepted: true, verdict: 'passed' });
    const worse = await run([{ harm: -0.1 }, { harm: 4, share: 0.1 }, { harm: 3, share: 0 }, { harm: -0.1 }]);
    expect(harmsLeftOut(worse.result)).toEqual([3, 4]);
    expect(worse.result).toMatchObject({ verdict: 'removed', rate: 1 });
    expect(worse.merges.map(({ sources }) => sources.length)).toEqual([4, 3, 2]);
    expect(merges).toHaveLength(1);
  });

  test('removes the person whose removal helps most, without any scores', async () => {
    const { result } = await run([{ harm: -0.1 }, { harm: 4 }, { harm: 0.001 }, { harm: -0.2 }]);
    expect(harmsLeftOut(result)).toEqual([4]);
    expect(result).toMatchObject({ verdict: 'removed', rate: 1 });
  });

  test('removes two of six and three of seven persons, without any scores', async () => {
    const honest = [-0.1, -0.12, -0.09, -0.11];
    for (const harms of [
      [2, 3],
      [2, 3, 2.5],
    ]) {
      const sources = [...harms, ...honest].map((harm) => ({ harm }));
      const { result, merges } = await run(sources);
      expect(harmsLeftOut(result)).toEqual([...harms].sort((a, b) => a - b));
      expect(merges.length).toBeLessThanOrEqual(2 + sources.length + harms.length);
    }
  });

  test('goes on after a merge has passed if the next one is better by more than noise', async () => {
    // Without one of the attackers, the honest nodes outweigh the other attacker.
    const sources = [-0.5, -0.5, -0.5, -0.5, 1.2, 1.1].map((harm) => ({ harm }));
    const { result } = await run(sources);
    expect(harmsLeftOut(result)).toEqual([1.1, 1.2]);
    const suspects = await run(sources.map(({ harm }) => ({ harm, share: harm > 0 ? 0 : 1 })));
    expect(harmsLeftOut(suspects.result)).toEqual([1.1, 1.2]);
    // A person with a low score stays, because the merge gets no better without its update.
    const innocent = await run([
      { harm: 4, share: 0 },
      { harm: -0.1, share: 0.3 },
      { harm: -0.1 },
      { harm: -0.1 },
    ]);
    expect(harmsLeftOut(innocent.result)).toEqual([4]);
  });

  test('removes half of the weight, but not more', async () => {
    const half = await run([{ harm: 2 }, { harm: 3 }, { harm: -0.1 }, { harm: -0.1 }]);
    expect(harmsLeftOut(half.result)).toEqual([2, 3]);
    const more = await run([{ harm: 2, weight: 2 }, { harm: 3 }, { harm: -0.1 }, { harm: -0.1 }]);
    expect(more.result).toMatchObject({ accepted: false, isDrifted: false });
    expect((await run([{ harm: 3 }, { harm: -0.1, weight: 0.5 }])).result.accepted).toBe(false);
  });

  test('tries half the rate without the removed persons last', async () => {
    // Even without the attacker, the merge is too large a step to pass.
    const { result } = await run([{ harm: 4 }, { harm: 0.008 }, { harm: 0.008 }]);
    expect(harmsLeftOut(result)).toEqual([4]);
    expect(result).toMatchObject({ verdict: 'removed', rate: 0.5 });
  });

  test('removes the person who ruins a few rows, although the mean is lower with that person', async () => {
    const before = same(64, 5);
    const sources = ['good', 'ruin', 'fine', 'well'];
    const result = await passGate<string, readonly string[]>({
      sources,
      rate: 1,
      tolerance: 0.002,
      isLast: false,
      before,
      lowest: null,
      merge: async (some) => some,
      evaluate: async (some) =>
        rows(Array.from({ length: 64 }, (_, i) => (some.includes('ruin') ? (i < 3 ? 9 : 4.6) : 4.95))),
      personsOf: () => sources.map((source) => ({ sources: [source], weight: 1, isSuspect: false })),
      hasTime: () => true,
    });
    expect(result).toMatchObject({ accepted: true, verdict: 'removed', leftOut: ['ruin'] });
  });

  test('removes a person whose update gives losses that are not numbers', async () => {
    const sources = [1, 2, 3];
    const result = await passGate<number, readonly number[]>({
      sources,
      rate: 1,
      tolerance: 0.002,
      isLast: false,
      before: same(4, 5),
      lowest: null,
      merge: async (some) => some,
      evaluate: async (some) => same(4, some.includes(2) ? Number.NaN : 4.9),
      personsOf: () => sources.map((source) => ({ sources: [source], weight: 1, isSuspect: false })),
      hasTime: () => true,
    });
    expect(result).toMatchObject({ accepted: true, verdict: 'removed', leftOut: [2] });
  });

  test('removes no person whose removal helps no more than chance', async () => {
    // Without the last update, the merge would pass. But the other updates differ from this update only by noise.
    const noisy = [{ harm: 0.024 }, { harm: 0.025 }, { harm: 0.026 }, { harm: 0.03 }];
    const { result } = await run(noisy);
    expect(result).toMatchObject({ accepted: false });
    const lower = await run(noisy.map(({ harm }) => ({ harm: harm / 1.5 })));
    expect(lower.result).toMatchObject({ accepted: true, verdict: 'quarter-rate', rate: 0.25, leftOut: [] });
  });

  test('refuses the round when nothing passes', async () => {
    const { result, merges } = await run([{ harm: 3 }, { harm: 4 }, { harm: 5 }]);
    expect(result).toMatchObject({ accepted: false, isDrifted: false });
    // The gate tries these merges: all three updates, all at half the rate, all without each update in turn, the best
    // of these merges at half the rate, and all at a quarter of the rate.
    expect(merges).toHaveLength(1 + 1 + 3 + 1 + 1);
  });

  test('refuses a single bad update without trying an empty merge', async () => {
    const { result, merges } = await run([{ harm: 3 }]);
    expect(result.accepted).toBe(false);
    expect(merges.map(({ rate }) => rate)).toEqual([1, 0.5, 0.25]);
  });

  test('finds the one suspect among 40 persons at once', async () => {
    const sources = Array.from({ length: 40 }, (_, i) =>
      i === 30 ? { harm: 90, share: 0 } : { harm: i / 1e6 },
    );
    const { result, merges } = await run(sources);
    expect(harmsLeftOut(result)).toEqual([90]);
    expect(merges).toHaveLength(2);
  });

  test('removes a third of 300 persons if their scores are low', async () => {
    const sources = Array.from({ length: 300 }, (_, i) =>
      i % 3 === 0 ? { harm: 5, share: 0 } : { harm: -0.01 },
    );
    const { result } = await run(sources);
    expect(harmsLeftOut(result)).toHaveLength(100);
  });

  test('does not bring back an update of no person', async () => {
    const [outlier, ...others]: Fake[] = [{ harm: 1000 }, { harm: 3 }, { harm: 4 }];
    const tried: (readonly Fake[])[] = [];
    await passGate<Fake, number>({
      sources: [outlier!, ...others],
      rate: 1,
      tolerance: 0,
      isLast: false,
      before: rows([5]),
      lowest: null,
      merge: async (some) => {
        tried.push(some);
        return 1;
      },
      evaluate: async () => rows([6]),
      personsOf: () => persons(others),
      hasTime: () => true,
    });
    const [first, second] = others;
    expect(tried).toEqual([[outlier, ...others], others, [second], [first], [second], others]);
  });

  test('removes a person whose update makes the merge impossible', async () => {
    const { result } = await run([{ harm: Number.POSITIVE_INFINITY }, { harm: -0.1 }]);
    expect(harmsLeftOut(result)).toEqual([Number.POSITIVE_INFINITY]);
  });

  test('says that the parent has drifted, and removes no person for that', async () => {
    const { result, merges } = await run([{ harm: 0.004 }, { harm: 0.004 }], { lowest: rows([4.9, 4.9]) });
    expect(result).toMatchObject({ accepted: false, isDrifted: true });
    expect(merges).toHaveLength(1);
  });

  test('stops when there is no time left', async () => {
    const { result, merges } = await run([{ harm: -0.1 }, { harm: -0.1 }, { harm: 3 }], { time: 3 });
    expect(result.accepted).toBe(false);
    expect(merges).toHaveLength(3);
  });

  test('always ends, removes at most half of the weight, and takes no merge that is too bad', async () => {
    const source = fc.record({
      harm: fc.oneof(fc.double({ min: -1, max: 5, noNaN: true }), fc.constant(Number.POSITIVE_INFINITY)),
      // As in a merge, weights are float32 values. Halves of the least float64 values cannot be represented.
      weight: fc.float({ min: 0, max: 3, noNaN: true }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(source, { minLength: 1, maxLength: 60 }), async (sources) => {
        const { result, merges } = await run(sources);
        expect(merges.length).toBeLessThanOrEqual(MAX_EVALUATIONS);
        const total = sources.reduce((sum, { weight }) => sum + weight, 0);
        for (const { sources: some } of merges) {
          const left = some.reduce((sum, { weight = 1 }) => sum + weight, 0);
          expect(left).toBeGreaterThanOrEqual((1 - REMOVED_SHARE) * total * (1 - 1e-5));
        }
        if (!result.accepted) return;
        expect(
          judge({ before: rows([5, 5]), lowest: null, after: result.losses }, { tolerance: 0.001 }).passes,
        ).toBe(true);
        for (const left of result.leftOut) expect(sources).toContain(left);
      }),
    );
  });
});
