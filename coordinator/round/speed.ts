import type { Manifest } from '../../protocol/manifest.ts';

/** Largest growth of a node's speed from one round to the next, as a factor. */
export const SPEED_GROWTH = 1.5;

/**
 * Returns the number of predicted tokens that `steps` optimiser steps are expected to train: their rows times the mean
 * number of predicted tokens of a row. An author claims the number of its tokens, but cannot influence this number.
 */
export function expectedTokens(
  steps: number,
  { data, training }: Pick<Manifest, 'data' | 'training'>,
): number {
  return (steps * training.batchSize * data.tokens) / data.rows;
}

/**
 * Returns the speed of a node after an update has arrived, in tokens per second. The speed can fall to any value, but
 * grows by a factor of at most SPEED_GROWTH per round. A node that delivers without training would otherwise be
 * measured as thousands of times faster than the others. A late update can only lower the speed, so late updates of
 * several rounds that arrive together do not let the speed grow several times.
 * @param previous speed before the update; 0 while unmeasured
 * @param ms time from the opening of the update's round to its arrival
 */
export function speedAfter(
  previous: number,
  { tokens, ms, isLate }: { tokens: number; ms: number; isLate: boolean },
): number {
  const measured = (tokens * 1000) / Math.max(1, ms);
  if (previous === 0) return measured;
  return Math.min(measured, isLate ? previous : SPEED_GROWTH * previous);
}
