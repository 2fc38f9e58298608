import { medianNormClip, type SparseUpdate, updateNorms } from '../../lora/update/index.ts';
import { isHarmful, type LossGradient, scoreUpdate } from '../../lora/update/score.ts';
import type { Figures } from '../../protocol/messages.ts';
import { votesOf } from '../merge/update-weights.ts';
import { BELIEF_UPDATES, beliefOf, gainErrorOf, isDoubtful, sharesOf } from './belief.ts';
import { planScoring } from './score-plan.ts';

/** An update in the figures that the coordinator published for a round. */
type Published = Figures['updates'][number];

/** Facts and functions that a witness needs to compute scores. */
export interface ScoreWitness {
  /** Number of rows in the job's data. */
  readonly rows: number;
  /** Reads the payload of an update and decodes it. */
  load(update: Published): Promise<SparseUpdate>;
  /** Returns the gradient of the mean loss at the parent checkpoint, on the rows at the given positions of a round. */
  gradient(positions: readonly number[], round: number): Promise<LossGradient>;
  /**
   * Returns the shares of a node's scored updates in earlier merges, newest first. An update that failed its audit has
   * the share 0.
   */
  earlier(peer: string): readonly number[];
  /**
   * Maximum difference between a published and a computed effect (or gain), as a fraction of the largest
   * published effect (or gain). The two values may differ because devices and engines round differently.
   * @default 0.02
   */
  readonly tolerance?: number;
}

/** A figure that the coordinator published and that differs from the figure that the witness computed. */
export interface ScoreMismatch {
  readonly peer: string;
  readonly round: number;
  readonly figure: 'effect' | 'effectError' | 'gain' | 'share' | 'belief' | 'harmful';
  readonly published: number | null;
  readonly computed: number | null;
}

const DEFAULT_TOLERANCE = 0.02;

/**
 * Computes the scores of a round again, from the payloads and gradients of a witness. Published effects and
 * gains may differ from the computed ones by the tolerance. Shares and beliefs are computed from the
 * published effects and gains, so they must equal the published shares and beliefs. Exact effects are not
 * checked.
 * @returns the published figures that differ; empty if all are right
 */
export async function checkScores(figures: Figures, witness: ScoreWitness): Promise<ScoreMismatch[]> {
  const { seed, updates, parent } = figures;
  if (seed === null) return [];
  const sent: SparseUpdate[] = [];
  for (const update of updates) sent.push(await witness.load(update));
  const norms = sent.map(updateNorms);
  const earlier = updates.map(({ peer }) => witness.earlier(peer));
  const votes = votesOf(
    earlier.map((shares) => ({ belief: beliefOf(shares), isNewcomer: shares.length < BELIEF_UPDATES })),
  );
  const scales = medianNormClip(norms, votes);
  const isEmpty = norms.map((norm) => norm.every((value) => value === 0));
  const candidates = updates.flatMap((update, index) =>
    isEmpty[index] || update.parent !== parent ? [] : [{ index, update }],
  );
  const plan = planScoring(
    candidates.map(({ update: { peer, round, start, end } }) => ({
      key: `${peer} ${round}`,
      start,
      end,
      isDoubtful: isDoubtful(witness.earlier(peer)),
    })),
    { assignedEnd: figures.assignedEnd, rows: witness.rows, seed },
  );
  const found: ScoreMismatch[] = [];
  const note = (
    { peer, round }: Published,
    figure: ScoreMismatch['figure'],
    published: number | null,
    computed: number | null,
  ): void => {
    found.push({ peer, round, figure, published, computed });
  };

  const random: LossGradient[] = [];
  for (const positions of plan.random) random.push(await witness.gradient(positions, figures.round));
  const largest = (figure: 'effect' | 'gain'): number =>
    Math.max(...updates.map(({ score }) => Math.abs(score?.[figure] ?? 0)));
  const { tolerance = DEFAULT_TOLERANCE } = witness;
  for (const { candidate, positions } of plan.own) {
    const { index, update } = candidates[candidate]!;
    if (update.score === null) continue;
    const own = await witness.gradient(positions.slice(0, update.score.ownRows), update.round);
    const score = scoreUpdate(sent[index]!, { random, own, scale: scales[index]! });
    for (const figure of ['effect', 'effectError', 'gain'] as const) {
      const allowed = tolerance * largest(figure === 'gain' ? 'gain' : 'effect');
      const published = update.score[figure];
      if (!(Math.abs(published - score[figure]) <= allowed)) note(update, figure, published, score[figure]);
    }
  }

  const randomRows = plan.random.flat().length;
  const measured = candidates.filter(({ update }) => update.score !== null);
  const shares = sharesOf(
    measured.map(({ update }) => {
      const { effect, effectError, gain, exact, ownRows } = update.score!;
      const { steps } = update;
      const gainError = gainErrorOf(effectError, { ownRows, randomRows });
      const whole = exact === null ? null : { effect: exact, steps };
      const perStep = { effect: effect / steps, effectError: effectError / steps };
      return { ...perStep, gain, gainError, exact: whole, earlier: witness.earlier(update.peer) };
    }),
  );
  for (const [index, update] of updates.entries()) {
    const { score, share, belief, harmful } = update;
    // The coordinator judges a late update by a figure that it does not publish, so a witness cannot check the score.
    if (update.parent !== parent && !isEmpty[index]) continue;
    const isOut = isEmpty[index]! || (score !== null && isHarmful(score));
    if (isOut !== harmful) note(update, 'harmful', Number(harmful), Number(isOut));
    const place = measured.findIndex((one) => one.index === index);
    const computed = isOut ? 0 : place < 0 || shares === null ? null : shares[place]!;
    if (computed !== share) note(update, 'share', share, computed);
    // If an update has no share, the belief in its author follows from the shares of earlier merges alone.
    const expected = beliefOf(computed === null ? earlier[index]! : [computed, ...earlier[index]!]);
    if (expected !== belief) note(update, 'belief', belief, expected);
  }
  return found;
}
