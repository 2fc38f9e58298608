import type { SparseUpdate } from '../../lora/update/index.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Figures } from '../../protocol/messages.ts';
import { checkJudgement } from './judgement.ts';
import { measureScores } from './measure.ts';
import { earlierOf, type Published, type ScoreMismatch } from './published.ts';

export type { ScoreMismatch } from './published.ts';

/** Facts and functions that a witness needs to compute scores. */
export interface ScoreWitness {
  /** Number of rows in the job's data. */
  readonly rows: number;
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
   * Returns the shares of a node's scored updates in earlier merges, newest first. An update that failed its audit has
   * the share 0.
   * @default the earlier shares in the figures
   */
  earlier?(peer: string): readonly number[];
  /**
   * Maximum difference between a published and a computed figure, as a fraction of a typical inner product of the
   * round. The two values may differ because devices, engines and base bits round differently.
   * @default 0.1
   */
  readonly tolerance?: number;
}

/**
 * Computes the scores of a round again, from the payloads and gradients of a witness. Published effects, gains and exact
 * effects may differ from the computed ones by the tolerance. Shares and beliefs are computed from the published
 * effects and gains, so they must equal the published shares and beliefs.
 * @returns the published figures that differ; empty if all are right
 */
export async function checkScores(figures: Figures, witness: ScoreWitness): Promise<ScoreMismatch[]> {
  const { rows } = witness;
  const earlier = (update: Published): readonly number[] =>
    witness.earlier?.(update.peer) ?? earlierOf(update);
  const found = checkJudgement(figures, { rows, earlier });
  const { mismatches } = await measureScores(figures, witness, { rows, earlier });
  return [...mismatches, ...found];
}
