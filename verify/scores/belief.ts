/**
 * Belief in the work of a node: a number from 0 to 1 that says how the effect of the node's updates compares with that
 * of honest nodes. The weight of an update in a merge is multiplied by the belief in its author. Decision 043 has the
 * measurements that led to these rules.
 */

import { weightedMedian } from '../../lora/update/merge.ts';
import { EARLIER_SHARES } from '../../protocol/limits.ts';

/**
 * Version of the rules in this file and in score-plan.ts. Signed figures contain it. A change that leads to other rows,
 * shares or beliefs needs the next number, because a witness with the new rules would otherwise call honest figures wrong.
 */
export const FIGURE_RULES = 1;

/**
 * Number of newest scored updates of a node from which its belief is computed. One score alone is noisy, because it is
 * measured on few rows.
 */
export const BELIEF_UPDATES = EARLIER_SHARES;
/**
 * Share (see `sharesOf`) that is assumed for each missing update of a node that has fewer than BELIEF_UPDATES scored
 * updates.
 */
export const NEWCOMER_SHARE = 0.25;
/** A belief below this value is set to 0. Nodes that trained honestly have a higher mean share (decision 043). */
export const BELIEF_LINE = 0.2;

/**
 * Overshoot at which the share of an update becomes 0, as a multiple of the median gain. The overshoot of an update is
 * the exact effect that its assigned steps should have, minus its measured exact effect.
 */
export const MAX_OVERSHOOT = 0.4;
/**
 * Overshoots are divided by the median gain, but at least by this fraction of the median exact effect. If the rows of
 * all nodes are similar, a node's own rows teach it little more than other rows do. The median gain is then very small,
 * and even the overshoots of honest nodes can exceed it.
 */
const MIN_GAIN_SHARE = 0.25;
/**
 * Minimum number of exact effects for a median. With fewer exact effects, the overshoot of updates is not
 * computed.
 */
export const MIN_EXACT_EFFECTS = 3;

/**
 * The gains of a round count only if the median gain is greater than this number times the standard error of the
 * median. Without this condition, nodes would lose belief by chance in jobs with little data. If the data has fewer
 * rows than an interval, all gains are noise.
 */
const CLEAR_GAIN = 3;
/** Standard error of the median of n normally distributed values, divided by the standard error of their mean. */
const MEDIAN_ERROR = Math.sqrt(Math.PI / 2);

/**
 * The effects of a round are clear if their median is at least this number times the standard error of one effect. When
 * a job has almost converged, the effects of honest updates are lost in the noise.
 */
export const CLEAR_ERRORS = 3;
/**
 * Maximum allowance for the noise of an effect, in standard errors. An update whose effect is more than this number of
 * standard errors below zero is harmful.
 */
const MAX_ALLOWANCE = 2;

/**
 * An author with a share below this number is doubtful. The coordinator scores the next updates of such an
 * author on more rows.
 */
const CLEAR_SHARE = 0.6;
/**
 * Beliefs are multiples of 1/256, so that anyone can compute the exact belief from a weight in a signed checkpoint, if
 * no limit changed that weight (see `weighUpdates`).
 */
const BELIEF_STEPS = 256;

/** Figures of one scored update, and the earlier shares of its author. */
export interface Scored {
  /** Effect divided by the number of assigned steps, because an honest node with fewer steps has less effect. */
  readonly effect: number;
  /** Standard error of the effect. Like the effect, it is divided by the number of assigned steps. */
  readonly effectError: number;
  readonly gain: number;
  /** Standard error of the gain, which is measured on few rows. */
  readonly gainError: number;
  /** Exact effect, and number of assigned steps; null if the exact effect was not measured. @default null */
  readonly exact?: { readonly effect: number; readonly steps: number } | null;
  /** Shares of the author's newest scored updates before this update, newest first. */
  readonly earlier: readonly number[];
}

/**
 * Returns the share of each update, from 0 to 1. The effect is divided by the median effect, and the gain by the median
 * gain. The share is the smaller of these two quotients. In both medians, the weight of an update is the sum of its
 * author's newest earlier shares. New identities have no earlier shares, so they cannot move the medians, however many
 * they are. In a job's first round, all updates have the same weight.
 *
 * If the median gain is not clearly above 0, or not above the standard error of a single gain, the gains are lost in
 * the noise. In this case, the share is the quotient of the effects alone. If the median effect is not above 0 either,
 * the updates cannot be compared.
 *
 * If the gains are above the noise but the effects are not, the same allowance is added to each effect and to the
 * median effect before the division (see `allowanceOf`). Noise then changes a share little, and the share follows
 * mostly from the gain.
 *
 * If exact effects were measured, the share is at most 1 − overshoot/MAX_OVERSHOOT. This finds nodes that make only a
 * few steps and multiply their update. Such an update has the effect and gain of an honest update, because both are
 * estimates to first order. But the whole update moves the adapter too far in one direction, so its exact effect is
 * low.
 * @returns null if the updates cannot be compared
 */
export function sharesOf(updates: readonly Scored[]): number[] | null {
  const weights = voices(updates);
  const gain = clearGain(updates);
  const median = (figure: 'effect' | 'effectError'): number =>
    weightedMedian(
      updates.map((update) => update[figure]),
      weights,
    );
  const effect = median('effect');
  const allowance = gain === null ? 0 : allowanceOf(effect, median('effectError'));
  if (!(effect + allowance > 0)) return null;
  const exact = gain === null ? null : medianExact(updates, weights);
  return updates.map((update) => {
    const share = (update.effect + allowance) / (effect + allowance);
    if (gain === null) return Math.max(0, Math.min(1, share));
    const shares = [share, update.gain / gain];
    if (exact !== null && update.exact) {
      const expected = exact.perStep * Math.min(update.exact.steps, exact.steps);
      const unit = Math.max(gain, MIN_GAIN_SHARE * exact.perStep * exact.steps);
      shares.push(1 - (expected - update.exact.effect) / unit / MAX_OVERSHOOT);
    }
    return Math.max(0, Math.min(1, ...shares));
  });
}

/**
 * Returns the median gain of a round; null if the median does not stand out from the noise (see `sharesOf`).
 */
export function clearGain(updates: readonly Pick<Scored, 'gain' | 'gainError' | 'earlier'>[]): number | null {
  const weights = voices(updates);
  const median = (figure: 'gain' | 'gainError'): number =>
    weightedMedian(
      updates.map((update) => update[figure]),
      weights,
    );
  const [gain, error] = [median('gain'), median('gainError')];
  const ofMedian = (MEDIAN_ERROR * error) / Math.sqrt(weights.filter((weight) => weight > 0).length);
  return gain > Math.max(error, CLEAR_GAIN * ofMedian) ? gain : null;
}

/**
 * Returns the weight of each update in medians: the belief that its author has earned. If no author has earned belief,
 * all updates have the weight 1.
 */
function voices(updates: readonly Pick<Scored, 'earlier'>[]): number[] {
  const earned = updates.map(({ earlier }) => earnedBelief(earlier));
  return earned.some((weight) => weight > 0) ? earned : updates.map(() => 1);
}

/**
 * Returns the allowance for the noise of effects. It is 0 if the median effect is clear, and MAX_ALLOWANCE standard
 * errors if the median is 0 or less. Between these two cases it changes linearly, so that noise never makes a sudden
 * difference.
 */
function allowanceOf(effect: number, error: number): number {
  const unclear = 1 - Math.max(0, effect) / (CLEAR_ERRORS * error);
  return error > 0 ? MAX_ALLOWANCE * error * Math.max(0, unclear) : 0;
}

/**
 * Returns the weighted medians of the exact effect per step and of the number of steps; null if too few exact effects
 * were measured. The median number of steps is needed because later steps have less effect than the first steps.
 * Therefore an author with more steps than the median is not expected to have more effect.
 */
function medianExact(
  updates: readonly Scored[],
  weights: readonly number[],
): { perStep: number; steps: number } | null {
  const measured = updates.flatMap(({ exact }, i) => (exact ? [{ ...exact, weight: weights[i]! }] : []));
  if (measured.length < MIN_EXACT_EFFECTS || measured.every(({ weight }) => weight === 0)) return null;
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
 * Returns the belief in a node: the mean of its newest shares, with NEWCOMER_SHARE for each missing share. Returns 0 if
 * the mean is below BELIEF_LINE.
 * @param shares shares of the node's scored updates, newest first
 */
export function beliefOf(shares: readonly number[]): number {
  const known = newest(shares);
  const missing = BELIEF_UPDATES - known.length;
  const belief = mean([...known, ...Array<number>(missing).fill(NEWCOMER_SHARE)], BELIEF_UPDATES);
  return belief < BELIEF_LINE ? 0 : Math.round(belief * BELIEF_STEPS) / BELIEF_STEPS;
}

/**
 * Returns the belief that a node has earned: the mean of its newest shares, where a missing share counts as 0. The
 * earned belief is the node's weight in medians, so new identities have no weight there.
 * @param shares shares of the node's scored updates, newest first
 */
export function earnedBelief(shares: readonly number[]): number {
  return mean(newest(shares), BELIEF_UPDATES);
}

/** Returns an earlier share, or 0 if its update has failed the audit. */
export function countedShare({
  share,
  failed,
}: {
  readonly share: number;
  readonly failed: boolean;
}): number {
  return failed ? 0 : share;
}

/** Returns whether an author is new or has a low share. The next update of such an author is scored on more rows. */
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
