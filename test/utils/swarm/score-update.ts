import type { SparseUpdate } from '../../../lora/update/index.ts';
import { effectOf, type LossGradient, lossDecrease, type UpdateScore } from '../../../lora/update/score.ts';

/**
 * Scores an update.
 * @param random gradients on batches of rows that were assigned to no node in this round; at least one
 * @param own gradient on rows of the author's interval; the rows are chosen after the update has arrived
 */
export function scoreUpdate(
  update: SparseUpdate,
  { random, own, scale }: { random: readonly LossGradient[]; own: LossGradient; scale?: ArrayLike<number> },
): UpdateScore {
  const measured = effectOf(random.map((gradient) => lossDecrease(gradient, update, scale)));
  return { ...measured, gain: lossDecrease(own, update, scale) - measured.effect };
}
