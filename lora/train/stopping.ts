/** Early stopping: finds the best adapter so far and decides when a run stops. */

export interface Evaluation {
  /** Number of optimiser steps made before the measurement. */
  readonly step: number;
  /** Held-out loss in nats per token. */
  readonly loss: number;
}

/** The rule by which early stopping ends a run. */
export interface StoppingRule {
  /**
   * Number of consecutive measurements without improvement that end the run; null if the run never ends
   * early.
   */
  readonly patience: number | null;
  /** Smallest decrease that counts as an improvement, in nats per token. */
  readonly minDelta: number;
}

export interface Progress {
  readonly best: Evaluation | null;
  /** Number of measurements since the last improvement by more than `minDelta`. */
  readonly waited: number;
}

/**
 * Applies a measurement to the progress, as transformers' EarlyStoppingCallback does. The best adapter is the one with
 * the lowest loss. Patience restarts only after a decrease by more than `minDelta`. NaN is never an improvement.
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
