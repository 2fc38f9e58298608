/** Judges an audit. Decision 049 has the measurements behind the numbers. */

import type { Preset } from '../../lora/update/index.ts';
import type { AuditFigures } from '../../lora/update/score.ts';
import { votesOf } from '../../verify/merge/update-weights.ts';

interface Lines {
  /** Minimum closeness with which an update passes. */
  readonly least: number;
  /**
   * If the closeness is at least this value, the balance is not judged. In the measurements with models/nano, only
   * honest nodes reached this value. A node that stops after half of the steps can reach it only if both halves make
   * nearly the same change. The balance would not show the difference then.
   */
  readonly clear: number;
  /**
   * Minimum balance with which an update passes if its closeness is below `clear`. It is lower for presets
   * that keep few values, because some honest updates with these presets had a low balance.
   */
  readonly balance: number;
}

/**
 * Limits for each preset. They lie between the measured values of honest and of dishonest updates (decision 049):
 *
 *                                                          tiny  balanced  quality  dense
 * lowest closeness of honest updates                       0.89      0.82     0.81   0.42
 * highest closeness of copies of another node's update
 *   and of updates trained with shuffled labels            0.78      0.69     0.56   0.33
 * lowest balance of honest updates                         0.42      0.54     0.55   0.72
 * highest balance of updates with only the first 4 of 8
 *   steps                                                  0.07      0.11     0.16   0.38
 *
 * Presets that keep few values have higher limits for the closeness, because they keep the largest values, which differ
 * least from the values of the repeated training.
 */
export const AUDIT_LINES: Readonly<Record<Preset, Lines>> = {
  tiny: { least: 0.8, clear: 0.95, balance: 0.25 },
  balanced: { least: 0.7, clear: 0.92, balance: 0.3 },
  quality: { least: 0.6, clear: 0.9, balance: 0.3 },
  dense: { least: 0.35, clear: 0.75, balance: 0.5 },
};
/**
 * Minimum number of steps of an update that is audited. With fewer steps, an audit cannot tell the first half of the
 * steps from the second half, and the closeness of some honest nodes was below the limit.
 */
export const MIN_STEPS = 6;

/**
 * Returns whether an update passes its audit.
 * @param training `isFirst`: whether this is the author's first update. The balance of a first update is not judged,
 *   because the warm-up of the learning rate distorts the balance if earlier updates of the author were lost.
 */
export function passes(
  { closeness, balance }: AuditFigures,
  { preset, isFirst }: { preset: Preset; isFirst: boolean },
): boolean {
  const lines = AUDIT_LINES[preset];
  if (!(closeness >= lines.least)) return false;
  return closeness >= lines.clear || isFirst || balance >= lines.balance;
}

/** Result of the newest audit of a person. */
export interface PersonResult {
  readonly person: string;
  readonly passed: boolean;
  /** The belief in the author of the audited update. */
  readonly belief: number;
  /** Whether the author of the audited update is a newcomer. */
  readonly isNewcomer: boolean;
}

/**
 * Returns whether a failed audit of a person may have consequences. The results of the other persons with a passed
 * audit must have more weight together than those with a failed one. If most of them failed, the coordinator itself may
 * be at fault, for example because its device computes wrong results. The results are weighted because an attacker could
 * otherwise fail audits under many new identities, until no failed audit has consequences. Results of newcomers have no
 * weight if a believed node is among the others (see `votesOf`).
 * @param newest the newest results of all audited persons
 */
export function isTrusted(person: string, newest: readonly PersonResult[]): boolean {
  const others = newest.filter((one) => one.person !== person);
  const votes = votesOf(others);
  const weigh = (passed: boolean): number =>
    others.reduce((sum, one, i) => sum + (one.passed === passed ? votes[i]! : 0), 0);
  return weigh(true) > weigh(false);
}
