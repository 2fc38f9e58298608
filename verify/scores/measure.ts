/** Measures published effects and gains again. */
import { medianNormClip, type SparseUpdate, updateNorms } from '../../lora/update/index.ts';
import { effectOf, type LossGradient, lossDecrease } from '../../lora/update/score.ts';
import type { Figures } from '../../protocol/messages.ts';
import { votesOf } from '../merge/update-weights.ts';
import { BELIEF_UPDATES, beliefOf } from './belief.ts';
import {
  badIntervals,
  earlierOf,
  isPublishedEmpty,
  type Published,
  planOf,
  type ScoreMismatch,
} from './published.ts';

/**
 * Maximum difference between a published and a measured figure, as a fraction of the scale that `measureScores` explains.
 * Figures with a 4-bit base differed by up to 4.3 % from those with 32 bits (decision 108).
 */
export const SCORE_TOLERANCE = 0.1;

/** Reads updates, and computes gradients and losses at the parent checkpoint of a merge. */
export interface ScoreReader {
  /** Reads the payload of an update and decodes it. It is called several times for each update. */
  load(update: Published): Promise<SparseUpdate>;
  /** Returns the gradient of the mean loss at the parent checkpoint, on the rows at the given positions of a round. */
  gradient(positions: readonly number[], round: number): Promise<LossGradient>;
  /**
   * Returns the mean loss on the rows at the given positions of a round.
   * @param sent the update to apply to the parent checkpoint before the loss is computed, and the factor of each of its
   *   tensors (see `withUpdate` in lora/update/score.ts); null for none
   * @default exact effects are not checked
   */
  loss?(
    sent: { readonly update: SparseUpdate; readonly scale: Float32Array } | null,
    positions: readonly number[],
    round: number,
  ): Promise<number>;
  /**
   * Maximum difference between a published and a computed figure, as a fraction of a typical inner product of the
   * round. The two values may differ because devices, engines and base bits round differently.
   * @default 0.1
   */
  readonly tolerance?: number;
}

export interface MeasureOptions {
  /** Number of rows in the job's data. */
  readonly rows: number;
  /** @default the published shares */
  readonly earlier?: (update: Published) => readonly number[];
  /** Returns whether the gain and the exact effect of an update are measured. @default they are measured for all updates */
  readonly isChosen?: (update: Published) => boolean;
}

/** Result of a measurement. */
export interface Measured {
  readonly mismatches: readonly ScoreMismatch[];
  /** Number of updates whose effect was measured, and number of updates whose gain was measured too. */
  readonly effects: number;
  readonly gains: number;
  /** Largest difference between a published and a measured figure, divided by `scale`. */
  readonly difference: number;
}

/**
 * Measures the effects of all updates of a round again, and the gains and exact effects of the chosen ones. The random
 * rows are the same for all updates, so the effects of further updates cost only inner products. Holds one gradient and
 * one update in memory.
 *
 * The differences are divided by a scale: the median of all inner products on the random rows, or the largest inner
 * product of the update, whichever is larger. Effects and gains are means and differences of inner products, so they
 * can be close to 0 where their rounding errors are not. A single huge update cannot raise the median.
 */
export async function measureScores(
  figures: Figures,
  reader: ScoreReader,
  { rows, earlier = earlierOf, isChosen = () => true }: MeasureOptions,
): Promise<Measured> {
  const { seed, updates, parent, round } = figures;
  const mismatches: ScoreMismatch[] = [];
  const measured = { effects: 0, gains: 0, difference: 0 };
  if (seed === null || badIntervals(figures).length > 0) return { mismatches, ...measured };
  const scales = await clipFactors(updates, reader, { earlier, mismatches });
  const { candidates, plan } = planOf({ ...figures, seed }, { rows, earlier });
  let late = updates.flatMap((update, index) =>
    update.parent !== parent && update.late ? [{ index, update }] : [],
  );
  if (candidates.length === 0) {
    // Without candidates, the plan has no random rows, so an honest coordinator measures no late update either.
    for (const { peer, round: made, late: published } of late.map(({ update }) => update)) {
      mismatches.push({ peer, round: made, figure: 'late', published: published!.effect, computed: null });
    }
    late = [];
  }
  const all = [...candidates.filter(({ update }) => update.score !== null), ...late];
  const products = new Map<number, number[]>(all.map(({ index }) => [index, []]));
  const product = async (index: number, gradient: LossGradient): Promise<number> =>
    lossDecrease(gradient, await reader.load(updates[index]!), scales[index]!);
  if (all.length > 0) {
    for (const positions of plan.random) {
      const gradient = await reader.gradient(positions, round);
      for (const { index } of all) products.get(index)!.push(await product(index, gradient));
    }
  }
  const { tolerance = SCORE_TOLERANCE } = reader;
  const typical = medianSize([...products.values()].flat());
  const compare = (
    index: number,
    figure: ScoreMismatch['figure'],
    published: number,
    computed: number,
    more: readonly number[] = [],
  ): void => {
    const own = [...products.get(index)!, ...more].map(Math.abs);
    const difference = Math.abs(published - computed);
    const ratio = difference === 0 ? 0 : difference / Math.max(typical, ...own);
    measured.difference = Math.max(measured.difference, ratio);
    const { peer, round: made } = updates[index]!;
    if (!(ratio <= tolerance)) mismatches.push({ peer, round: made, figure, published, computed });
  };

  for (const { index, update } of all) {
    const { effect, effectError } = effectOf(products.get(index)!);
    const published = update.score ?? update.late!;
    const name = update.score === null ? 'late' : 'effect';
    compare(index, name, published.effect, effect);
    compare(index, update.score === null ? 'late' : 'effectError', published.effectError, effectError);
    measured.effects++;
  }
  let before: number | null = null;
  for (const { candidate, positions } of plan.own) {
    const { index, update } = candidates[candidate]!;
    const { score } = update;
    if (score === null || !isChosen(update)) continue;
    const own = await product(index, await reader.gradient(positions.slice(0, score.ownRows), update.round));
    compare(index, 'gain', score.gain, own - effectOf(products.get(index)!).effect, [own]);
    measured.gains++;
    if (score.exact === null || reader.loss === undefined || plan.exact.positions.length === 0) continue;
    before ??= await reader.loss(null, plan.exact.positions, round);
    const sent = { update: await reader.load(update), scale: scales[index]! };
    const after = await reader.loss(sent, plan.exact.positions, round);
    compare(index, 'exact', score.exact, before - after, [own]);
  }
  return { mismatches, ...measured };
}

/**
 * Returns the factors with which the coordinator clips each tensor of each update. Reports each update that is empty but
 * not published as empty, and the other way round.
 */
async function clipFactors(
  updates: readonly Published[],
  reader: ScoreReader,
  { earlier, mismatches }: { earlier: (update: Published) => readonly number[]; mismatches: ScoreMismatch[] },
): Promise<Float32Array[]> {
  const norms: Float64Array[] = [];
  for (const update of updates) norms.push(updateNorms(await reader.load(update)));
  const votes = votesOf(
    updates.map((update) => {
      const shares = earlier(update);
      return { belief: beliefOf(shares), isNewcomer: shares.length < BELIEF_UPDATES };
    }),
  );
  for (const [i, update] of updates.entries()) {
    const isEmpty = norms[i]!.every((value) => value === 0);
    const { peer, round, harmful } = update;
    if (isEmpty !== isPublishedEmpty(update)) {
      mismatches.push({
        peer,
        round,
        figure: 'harmful',
        published: Number(harmful),
        computed: Number(isEmpty),
      });
    }
  }
  return medianNormClip(norms, votes);
}

function medianSize(values: readonly number[]): number {
  const sorted = values.map(Math.abs).sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
