/**
 * The standing of a person, computed from its strikes. Decision 045 has the reasons for the numbers, and
 * test/unit/coordinator/trust/honest-nodes.test.ts measures how often they hit honest nodes.
 */
import type { StrikeKind } from '../../monitor/job-events.ts';

/**
 * Points of a strike. Scores are noisy, so a strike that follows from scores counts one point. A failed audit counts
 * two, because few rounds are audited. It does not suspend alone, because its lines were measured with one model.
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
 * Number of rounds after which a strike expires. In a model of the measured scores, no honest node of 10,000 got three
 * points within this time in 100 rounds (decision 045).
 */
export const STRIKE_ROUNDS = 20;
/** Points from which a person is on probation. One point alone has no consequence. */
export const PROBATION_POINTS = 2;
/** Points from which a person is suspended. A node with harmful updates reaches them in its third round. */
export const SUSPENSION_POINTS = 3;
/** Points from which a person is suspended again, within FORGET_ROUNDS of its last suspension. */
export const NEXT_SUSPENSION_POINTS = 2;
/** Number of rounds of the first suspension. Each further suspension is twice as long. */
export const FIRST_SUSPENSION_ROUNDS = 4;
/** Number of suspensions that a person may serve. Instead of the next one, it is banned from the job. */
export const MOST_SUSPENSIONS = 3;
/** Number of rounds after the end of a suspension from which the next one counts as the first again. */
export const FORGET_ROUNDS = 100;
/** Duration of a ban for repeated strikes, in milliseconds: a week. Most jobs are shorter. */
export const BAN_MS = 7 * 24 * 3600_000;

/** The fields of a strike that decide a standing. */
export interface CountedStrike {
  readonly kind: StrikeKind;
  /** The round of the misdeed. */
  readonly round: number;
  /** The newest round when the misdeed was found. */
  readonly foundIn: number;
}

/** What follows from a person's strikes. */
export interface Sentence {
  /** The last round in which the person gets the fewest steps; 0 if it is not on probation. */
  readonly probationUntil: number;
  /** The last round without an assignment; 0 if the person was never suspended. */
  readonly suspendedUntil: number;
  /** Number of suspensions, without those that are forgotten. */
  readonly suspensions: number;
  /** Points of the strikes that have not expired in the round of the newest strike. 0 after a suspension has begun. */
  readonly points: number;
}

/**
 * Computes what follows from a person's strikes.
 *
 * Of several strikes for one round, only the heaviest counts, because they often have the same cause. This also holds
 * for a person with several nodes. When a suspension begins, earlier misdeeds are settled: those that are found later,
 * such as in late updates, do not count again.
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

/** Returns the standing in a round of a person that is not banned. */
export function standingIn(
  { suspendedUntil, probationUntil }: Sentence,
  round: number,
): 'good' | 'probation' | 'suspended' {
  if (round <= suspendedUntil) return 'suspended';
  return round <= probationUntil ? 'probation' : 'good';
}

/** Returns the last round in which PROBATION_POINTS have not expired; 0 if there are fewer. */
function endOfProbation(counted: readonly { foundIn: number; points: number }[]): number {
  let points = 0;
  for (const one of counted.toSorted((a, b) => b.foundIn - a.foundIn)) {
    points += one.points;
    if (points >= PROBATION_POINTS) return one.foundIn + STRIKE_ROUNDS - 1;
  }
  return 0;
}
