/**
 * Belief in the work of a node: a number from 0 to 1 that says how the effect of the node's updates compares with that
 * of honest nodes. The weight of an update in a merge is multiplied by the belief in its author. Decision 043 has the
 * measurements that led to these rules.
 */

import { weightedMedian } from '../../lora/update/weights.ts';

/**
 * Number of newest scored updates of a node from which its belief is computed. One score alone is noisy, because it is
 * measured on few rows.
 */
export const BELIEF_UPDATES = 3;
/**
 * Share (see `sharesOf`) that is assumed for each missing update of a node that has fewer than BELIEF_UPDATES scored
 * updates.
 */
export const NEWCOMER_SHARE = 0.25;
/** A belief is set to 0 if it is below this line. The mean share of nodes that trained honestly is greater. */
export const BELIEF_LINE = 0.2;

/**
 * Overshoot from which the share of an update is 0, as a multiple of the median gain. The overshoot is the exact effect
 * that the assigned steps should have, minus the exact effect of the update.
 */
export const MOST_OVERSHOOT = 0.4;
/**
 * Smallest median gain that overshoots are compared with, as a share of the median exact effect. If nodes learn little
 * from their own rows that other rows do not teach, the gain is smaller than the differences between honest nodes.
 */
const LEAST_GAIN_SHARE = 0.25;
/** Smallest number of exact effects from which the median is computed. With fewer, no overshoot is computed. */
export const LEAST_EXACT = 3;

/**
 * The gains of a round count if their median is at least this many of its own standard errors above 0. In a job with less
 * data than an interval has rows, all gains are noise, and nodes would lose their belief by chance.
 */
const CLEAR_GAIN = 3;
/** Standard error of the median of n normally distributed values, as a multiple of that of their mean. */
const MEDIAN_ERROR = Math.sqrt(Math.PI / 2);

/**
 * The effects of a round are clear if their median is at least this many standard errors of one effect above zero. When a
 * job has almost converged, the effects of honest updates do not stand out from the noise.
 */
export const CLEAR_ERRORS = 3;
/**
 * Largest allowance for the noise of an effect, in standard errors. An update whose effect is this far below zero is
 * harmful.
 */
const MOST_ALLOWANCE = 2;

/** Share below which an author's next updates are scored on more rows. */
const CLEAR_SHARE = 0.6;
/**
 * Beliefs are multiples of 1/256. If no limit changed a weight in a signed checkpoint (see `weighUpdates`), anyone can
 * find the exact belief from it.
 */
const BELIEF_STEPS = 256;

/** Figures of one scored update, and what its author did before. */
export interface Scored {
  /** Effect divided by the number of assigned steps, because an honest node with fewer steps has less effect. */
  readonly effect: number;
  /** Standard error of the effect, divided by the number of assigned steps like the effect. */
  readonly effectError: number;
  readonly gain: number;
  /** Standard error of the gain, which is measured on few rows. */
  readonly gainError: number;
  /** Exact effect, and number of assigned steps. @default null, which means that it was not measured */
  readonly exact?: { readonly effect: number; readonly steps: number } | null;
  /** Shares of the author's newest scored updates before this one, newest first. */
  readonly earlier: readonly number[];
}

/**
 * Returns the share of each update, from 0 to 1. The effect is divided by the median effect, and the gain by the median
 * gain. The share is the smaller of these two quotients. In both medians, the weight of an update is the sum of its
 * author's newest earlier shares. New identities have no earlier shares, so they cannot move the medians, however many
 * they are. In a job's first round, all updates have the same weight.
 *
 * If the median gain is not clearly above 0, or not above the standard error of a single gain, the gains do not stand out
 * from the noise. Then the share is the quotient of the effects alone. If the median effect is not above 0 either, the
 * updates cannot be compared.
 *
 * If the gains stand out from their noise, and the effects do not, the same allowance is added to each effect and to the
 * median effect before the division (see `allowanceOf`). Noise then changes a share little, and the share follows mostly
 * from the gain.
 *
 * If exact effects were measured, the share is at most 1 − overshoot/MOST_OVERSHOOT. A node that does a few steps and
 * multiplies its update has an effect and a gain like an honest node, because both are estimates to first order. But the
 * whole update moves the adapter too far in one direction, and raises the loss.
 * @returns null if the updates cannot be compared
 */
export function sharesOf(updates: readonly Scored[]): number[] | null {
  const earned = updates.map(({ earlier }) => earnedBelief(earlier));
  const weights = earned.some((weight) => weight > 0) ? earned : updates.map(() => 1);
  const median = (figure: (update: Scored) => number): number => weightedMedian(updates.map(figure), weights);
  const gain = median((update) => update.gain);
  const gainError = median((update) => update.gainError);
  const ofMedian = (MEDIAN_ERROR * gainError) / Math.sqrt(weights.filter((weight) => weight > 0).length);
  const gainShows = gain > Math.max(gainError, CLEAR_GAIN * ofMedian);
  const effect = median((update) => update.effect);
  const allowance = gainShows
    ? allowanceOf(
        effect,
        median((update) => update.effectError),
      )
    : 0;
  if (!(effect + allowance > 0)) return null;
  const exact = gainShows ? medianExact(updates, weights) : null;
  return updates.map((update) => {
    const share = (update.effect + allowance) / (effect + allowance);
    const shares = gainShows ? [share, update.gain / gain] : [share];
    if (exact !== null && update.exact) {
      const expected = exact.perStep * Math.min(update.exact.steps, exact.steps);
      const unit = Math.max(gain, LEAST_GAIN_SHARE * exact.perStep * exact.steps);
      shares.push(1 - (expected - update.exact.effect) / unit / MOST_OVERSHOOT);
    }
    return Math.max(0, Math.min(1, ...shares));
  });
}

/**
 * Returns the allowance for the noise of effects. It is 0 if the median effect is clear, and MOST_ALLOWANCE standard errors
 * if the median is 0 or less. Between these two it falls evenly, so noise never decides between two different rules.
 */
function allowanceOf(effect: number, error: number): number {
  const unclear = 1 - Math.max(0, effect) / (CLEAR_ERRORS * error);
  return error > 0 ? MOST_ALLOWANCE * error * Math.max(0, unclear) : 0;
}

/**
 * Returns the weighted medians of the exact effect per step and of the steps; null if too few were measured. Later steps
 * have less effect than the first ones, so an author with more steps than the median need not have more effect.
 */
function medianExact(
  updates: readonly Scored[],
  weights: readonly number[],
): { perStep: number; steps: number } | null {
  const measured = updates.flatMap(({ exact }, i) => (exact ? [{ ...exact, weight: weights[i]! }] : []));
  if (measured.length < LEAST_EXACT || measured.every(({ weight }) => weight === 0)) return null;
  const weight = measured.map((one) => one.weight);
  return {
    perStep: weightedMedian(
      measured.map(({ effect, steps }) => effect / steps),
      weight,
    ),
    steps: weightedMedian(
      measured.map(({ steps }) => steps),
      weight,
    ),
  };
}

/**
 * Returns the belief in a node: the mean of its newest shares, with NEWCOMER_SHARE for each that is missing; 0 below
 * BELIEF_LINE.
 * @param shares of the node's scored updates, newest first
 */
export function beliefOf(shares: readonly number[]): number {
  const known = newest(shares);
  const missing = BELIEF_UPDATES - known.length;
  const belief = mean([...known, ...Array<number>(missing).fill(NEWCOMER_SHARE)], BELIEF_UPDATES);
  return belief < BELIEF_LINE ? 0 : Math.round(belief * BELIEF_STEPS) / BELIEF_STEPS;
}

/**
 * Returns the belief that a node has earned: the mean of its newest shares, where a missing share counts as 0. It is the
 * node's weight in medians, so new identities have none.
 * @param shares of the node's scored updates, newest first
 */
export function earnedBelief(shares: readonly number[]): number {
  return mean(newest(shares), BELIEF_UPDATES);
}

/** Returns whether an author's next update should be scored on more rows: a new author, or one with a low share. */
export function isDoubtful(shares: readonly number[]): boolean {
  const known = newest(shares);
  return known.length < BELIEF_UPDATES || known.some((share) => share < CLEAR_SHARE);
}

/**
 * Returns the standard error of a gain.
 * @param effectError standard error of the effect on `randomRows` rows
 */
export function gainErrorOf(
  effectError: number,
  { ownRows, randomRows }: { ownRows: number; randomRows: number },
): number {
  const ofOneRow = effectError * Math.sqrt(randomRows);
  return ofOneRow * Math.sqrt(1 / ownRows + 1 / randomRows);
}

function newest(shares: readonly number[]): readonly number[] {
  return shares.slice(0, BELIEF_UPDATES);
}

function mean(values: readonly number[], count: number): number {
  return values.reduce((sum, value) => sum + value, 0) / count;
}
