/** Which adapter was the best so far, and when to stop because none gets better. */

export interface Evaluation {
  /** Optimiser steps made before it. */
  readonly step: number;
  /** Held-out loss, nats per token. */
  readonly loss: number;
}

export interface StoppingRule {
  /** Evaluations without improvement after which training stops; null: never. */
  readonly patience: number | null;
  /** By less than this a loss does not count as improved, nats per token. */
  readonly minDelta: number;
}

export interface Progress {
  readonly best: Evaluation | null;
  /** Evaluations since the last one that improved by more than `minDelta`. */
  readonly waited: number;
}

export const NO_PROGRESS: Progress = { best: null, waited: 0 };

/**
 * Takes in an evaluation. As transformers' EarlyStoppingCallback: the best is the lowest loss, by however little; patience
 * starts anew only where the best before it is beaten by more than `minDelta`. A loss that is not a number never improves.
 */
export function judge(
  { best, waited }: Progress,
  evaluation: Evaluation,
  { patience, minDelta }: StoppingRule,
): { progress: Progress; isBest: boolean; stop: boolean } {
  const { loss } = evaluation;
  const isBest = best === null ? Number.isFinite(loss) : loss < best.loss;
  const improved = best === null ? isBest : best.loss - loss > minDelta;
  const progress = { best: isBest ? evaluation : best, waited: improved ? 0 : waited + 1 };
  return { progress, isBest, stop: patience !== null && progress.waited >= patience };
}
