import { BELIEF_LINE, clearGain, gainErrorOf } from '../../verify/scores/belief.ts';
import { RANDOM_BATCHES, RANDOM_ROWS } from '../../verify/scores/score-plan.ts';
import type { StoredScore } from '../store/store.ts';
import { effectsAreClear } from '../trust/misdeeds.ts';

/** An update of a merge, with its score. */
export interface JudgedSource extends Pick<StoredScore, 'figures' | 'share'> {
  /** Number of assigned optimiser steps. */
  readonly steps: number;
  /** Shares of the author's updates in earlier merges, newest first. */
  readonly earlier: readonly number[];
}

/**
 * Returns for each update of a merge whether it was probably not trained on its rows. Such an update gets no weight,
 * even if the earlier updates of its author were good.
 *
 * If the effects of the round are clear, the share of an update decides. In a job that has almost converged, the
 * effects of honest updates are mostly noise. If the effects are not clear but the gains are, the gain alone decides.
 * If the gains are not clear either, all updates count as trained.
 */
export function untrainedUpdates(updates: readonly JudgedSource[]): boolean[] {
  if (effectsAreClear(updates)) return updates.map(({ share }) => share !== null && share < BELIEF_LINE);
  const gains = updates.flatMap(({ figures, earlier }) => {
    if (figures === null) return [];
    const { gain, effectError, ownRows } = figures;
    // The number of random rows is not stored. Assume the maximum number, with which the error is largest.
    const gainError = gainErrorOf(effectError, { ownRows, randomRows: RANDOM_BATCHES * RANDOM_ROWS });
    return [{ gain, gainError, earlier }];
  });
  const median = clearGain(gains);
  return updates.map(
    ({ figures, share }) =>
      median !== null && share !== null && figures !== null && figures.gain < BELIEF_LINE * median,
  );
}
