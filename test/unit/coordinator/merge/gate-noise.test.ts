import { expect, test } from 'vitest';
import { changeOf } from '../../../../coordinator/merge/comparison.ts';
import { passGate } from '../../../../coordinator/merge/gate.ts';
import { REFUSALS_IN_A_ROW } from '../../../../coordinator/round/job-phase.ts';
import type { RowLoss } from '../../../../lora/train/step.ts';
import { SeededRandom } from '../../../utils/virtual/seeded-random.ts';

/**
 * Noise of honest training from `npm run bench gate` (decision 047), as shares of the loss: standard deviations of the
 * changes in a round, of the mean loss and of each row's loss around the mean. `few` is the largest number of rounds that
 * may be refused, rolled back or merged without a person.
 */
const NOISE = {
  '1e-3 (the default)': { mean: 0.0005, row: 0.003, few: 0 },
  '3e-3 (the best)': { mean: 0.0009, row: 0.0053, few: 0 },
  '1e-2 (too high)': { mean: 0.0016, row: 0.0138, few: 25 },
} as const;
/** Share of a deviation that is left after the next round, because training pulls the adapter back. */
const MEMORY = 0.72;

const ROWS = 64;
const PERSONS = 6;
const ROUNDS = 1_000;
const TOLERANCE = 0.002;
/** The loss falls by this share in total. Every HALF_LIFE rounds, half of the rest is reached. */
const GAIN = 0.3;
const HALF_LIFE = 10;

/**
 * State of a job: its expected progress, and how far the mean loss and the loss of each row deviate from the expected
 * losses.
 */
interface State {
  readonly progress: number;
  readonly mean: number;
  readonly rows: readonly number[];
}

function normal(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}

test.each(Object.entries(NOISE))(
  'accepts 1,000 rounds of honest training with a learning rate of %s',
  async (_, noise) => {
    const random = new SeededRandom(1);
    let run = 0;
    let worstRun = 0;
    // The change of a deviation is larger than its noise, because training also reduces the deviation.
    const scale = Math.sqrt((PERSONS * (1 + MEMORY)) / 2);
    const difficulty = Array.from({ length: ROWS }, () => 4.5 * (1 + 0.1 * normal(random)));
    const lossesOf = ({ progress, mean, rows }: State): RowLoss[] => {
      const level = 1 - GAIN * (1 - 2 ** (-progress / HALF_LIFE)) + mean;
      return difficulty.map((loss, i) => ({ lossSum: 100 * loss * (level + rows[i]!), tokens: 100 }));
    };
    let state: State = { progress: 0, mean: 0, rows: Array<number>(ROWS).fill(0) };
    let best = state;
    const verdicts: Record<string, number> = {};
    for (let round = 1; round <= ROUNDS; round++) {
      const updates = Array.from({ length: PERSONS }, () => ({
        mean: scale * noise.mean * normal(random),
        rows: difficulty.map(() => scale * noise.row * normal(random)),
      }));
      const before = state;
      const merged = (some: typeof updates, rate: number): State => {
        const average = (of: (update: (typeof updates)[number]) => number): number =>
          some.reduce((sum, update) => sum + of(update), 0) / some.length;
        const pull = (value: number, change: number): number =>
          value + rate * ((MEMORY - 1) * value + change);
        return {
          progress: before.progress + rate,
          mean: pull(
            before.mean,
            average((update) => update.mean),
          ),
          rows: before.rows.map((value, i) =>
            pull(
              value,
              average((update) => update.rows[i]!),
            ),
          ),
        };
      };
      const result = await passGate<(typeof updates)[number], State>({
        sources: updates,
        rate: 1,
        tolerance: TOLERANCE,
        isLast: false,
        before: lossesOf(before),
        lowest: best === before ? null : lossesOf(best),
        merge: async (some, rate) => merged([...some], rate),
        evaluate: async (found) => lossesOf(found),
        personsOf: () => updates.map((update) => ({ sources: [update], weight: 1, isSuspect: false })),
        hasTime: () => true,
      });
      const verdict = result.accepted ? result.verdict : result.isDrifted ? 'rolled-back' : 'refused';
      verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
      run = result.accepted ? 0 : run + 1;
      worstRun = Math.max(run, worstRun);
      if (result.accepted) state = result.merged;
      else if (result.isDrifted) state = best;
      if (changeOf(lossesOf(best), lossesOf(state))!.worsening < 0) best = state;
    }
    expect(verdicts.passed).toBeGreaterThan(0.85 * ROUNDS);
    for (const bad of ['removed', 'refused', 'rolled-back']) {
      expect(verdicts[bad] ?? 0, bad).toBeLessThanOrEqual(noise.few);
    }
    // A job pauses itself after REFUSALS_IN_A_ROW refused rounds in a row. The longest row here must be clearly shorter.
    expect(worstRun).toBeLessThan(REFUSALS_IN_A_ROW - 1);
  },
);
