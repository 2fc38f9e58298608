/**
 * The standing of a person, computed from the person's strikes. Decision 045 has the reasons for the numbers.
 * test/unit/coordinator/trust/honest-nodes.test.ts measures how often honest nodes are struck and suspended.
 */
import type { StrikeKind } from '../../protocol/api/job-events.ts';

/**
 * Points of a strike. Scores are noisy, so a strike that follows from scores counts only one point. A failed audit
 * counts two points, because few rounds are audited. Three points would suspend the person at once. That would be too
 * strict, because the thresholds of audits were measured with one model only.
 */
export const POINTS: Readonly<Record<StrikeKind, number>> = {
  harmful: 1,
  outlier: 1,
  'bad-payload': 1,
  disbelief: 1,
  audit: 2,
  conflicting: 3,
};
/**
 * Number of rounds after which a strike expires. It was chosen with a simulation of 10,000 honest nodes over 100
 * rounds (decision 045). With the measured spread of scores, no honest node was suspended, because no node got
 * strikes of three points within 20 rounds.
 */
export const STRIKE_ROUNDS = 20;
/** A person with at least this number of points is on probation. One point has no consequence. */
export const PROBATION_POINTS = 2;
/**
 * A person with at least this number of points is suspended. A node whose updates are all harmful reaches this number
 * after three rounds.
 */
export const SUSPENSION_POINTS = 3;
/**
 * A person who has been suspended before is suspended again at this number of points. If the last suspension ended more
 * than FORGET_ROUNDS rounds ago, SUSPENSION_POINTS applies instead.
 */
export const NEXT_SUSPENSION_POINTS = 2;
/** Number of rounds of the first suspension. Each further suspension is twice as long. */
export const FIRST_SUSPENSION_ROUNDS = 4;
/** Maximum number of suspensions of a person. After these, the person is banned from the job instead. */
export const MAX_SUSPENSIONS = 3;
/**
 * If this many rounds have passed since the end of a person's last suspension, the next suspension counts as the
 * first.
 */
export const FORGET_ROUNDS = 100;
/** Duration of a ban for repeated strikes, in milliseconds: a week. Most jobs are shorter. */
export const BAN_MS = 7 * 24 * 3600_000;

/** The fields of a strike that decide a standing. */
export interface CountedStrike {
  readonly kind: StrikeKind;
  /** The round of the misdeed. */
  readonly round: number;
  /** The round that was the newest when the coordinator found the misdeed. */
  readonly foundIn: number;
}

/** Consequences of a person's strikes. */
export interface Sentence {
  /** The last round of the person's probation; 0 if the person was never on probation. */
  readonly probationUntil: number;
  /** The last round of the person's newest suspension; 0 if the person was never suspended. */
  readonly suspendedUntil: number;
  /** Number of suspensions. Suspensions are forgotten after FORGET_ROUNDS rounds. */
  readonly suspensions: number;
  /**
   * Sum of the points of all strikes that had not expired at the newest strike. The sum starts again at 0 when a
   * suspension begins.
   */
  readonly points: number;
}

/**
 * Computes the consequences of a person's strikes.
 *
 * If a person gets several strikes for one round, even for several nodes, only the strike with the most points counts,
 * because such strikes often have the same cause. A suspension settles all misdeeds of the rounds before it. If the
 * coordinator finds such a misdeed later, for example in a late update, it does not count.
 * @param strikes in the order of recording, without those that were pardoned
 */
export function sentenceOf(strikes: readonly CountedStrike[]): Sentence {
  let sentence: Sentence = { probationUntil: 0, suspendedUntil: 0, suspensions: 0, points: 0 };
  let settledUntil = 0;
  let counted: { round: number; foundIn: number; points: number }[] = [];
  for (const { kind, round, foundIn } of strikes) {
    if (round <= settledUntil) continue;
    const other = counted.find((one) => one.round === round);
    counted = [
      ...counted.filter((one) => one !== other && one.foundIn > foundIn - STRIKE_ROUNDS),
      { round, foundIn, points: Math.max(POINTS[kind], other?.points ?? 0) },
    ];
    const points = counted.reduce((sum, one) => sum + one.points, 0);
    const isForgotten = foundIn > sentence.suspendedUntil + FORGET_ROUNDS;
    const suspensions = isForgotten ? 0 : sentence.suspensions;
    if (points >= (suspensions === 0 ? SUSPENSION_POINTS : NEXT_SUSPENSION_POINTS)) {
      const suspendedUntil = foundIn + FIRST_SUSPENSION_ROUNDS * 2 ** suspensions;
      sentence = {
        probationUntil: suspendedUntil + STRIKE_ROUNDS,
        suspendedUntil,
        suspensions: suspensions + 1,
        points: 0,
      };
      settledUntil = foundIn;
      counted = [];
    } else {
      const probationUntil = Math.max(sentence.probationUntil, endOfProbation(counted));
      sentence = { ...sentence, probationUntil, suspensions, points };
    }
  }
  return sentence;
}

/** Returns the standing that a person has in a round. The person must not be banned. */
export function standingIn(
  { suspendedUntil, probationUntil }: Sentence,
  round: number,
): 'good' | 'probation' | 'suspended' {
  if (round <= suspendedUntil) return 'suspended';
  return round <= probationUntil ? 'probation' : 'good';
}

/** Returns the last round in which at least PROBATION_POINTS points have not expired; 0 if there are fewer points. */
function endOfProbation(counted: readonly { foundIn: number; points: number }[]): number {
  let points = 0;
  for (const one of counted.toSorted((a, b) => b.foundIn - a.foundIn)) {
    points += one.points;
    if (points >= PROBATION_POINTS) return one.foundIn + STRIKE_ROUNDS - 1;
  }
  return 0;
}
