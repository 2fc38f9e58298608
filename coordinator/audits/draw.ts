/** The choice of the updates that the coordinator audits. */
import { createHash } from 'node:crypto';
import { isDoubtful } from '../../verify/scores/belief.ts';
import { STRIKE_ROUNDS } from '../trust/standing.ts';

/** An update that may be drawn for an audit. */
export interface AuditCandidate {
  readonly peer: string;
  /** The round in which the update was trained. */
  readonly round: number;
  /** Number of rows on which an audit of the update would train. */
  readonly rows: number;
  /**
   * Whether the author is new, has low shares or has failed an audit lately (`isWatched`). The updates of such an author
   * have four times the weight in the draw.
   */
  readonly isWatched: boolean;
}

/** An update with the random number that decides whether the update is drawn for an audit. */
export interface DrawnUpdate {
  readonly peer: string;
  readonly round: number;
  readonly rows: number;
  /** Random number between 0 and 1. The update with the greatest key is drawn first. */
  readonly key: number;
}

/**
 * Returns whether the updates of an author have a higher weight in the draw. The weight is higher if the
 * author is new, has low shares, or failed an audit in the last STRIKE_ROUNDS rounds. The last condition is
 * needed because an author can earn high shares within three rounds, long before its strike expires.
 * @param author `shares`: the shares of the author's newest scored updates, newest first
 * @param results all audits of the job that have a result
 */
export function isWatched(
  { peer, round, shares }: { peer: string; round: number; shares: readonly number[] },
  results: readonly { readonly peer: string; readonly round: number; readonly state: string }[],
): boolean {
  const hasFailed = results.some(
    (one) => one.peer === peer && one.state === 'failed' && one.round > round - STRIKE_ROUNDS,
  );
  return hasFailed || isDoubtful(shares);
}

/**
 * Returns the key of an update: a uniform random number. If the author is watched (see {@link isWatched}), the key is
 * the largest of four such numbers. The update with the greatest key is drawn first, so an update is drawn with a
 * probability proportional to its weight, which is 1 or 4 (Efraimidis and Spirakis 2006, weighted reservoir sampling).
 * @param seed 32 random bytes, drawn after the round had closed
 */
export function auditKey(
  seed: Uint8Array,
  { peer, round, isWatched }: Pick<AuditCandidate, 'peer' | 'round' | 'isWatched'>,
): number {
  const hash = createHash('sha256').update(seed).update(`${peer} ${round}`).digest();
  const uniform = (hash.readUIntBE(0, 6) + 0.5) / 2 ** 48;
  // A watched update gets the largest of four keys. The largest of four uniform numbers has the same distribution
  // as the fourth root of one uniform number. The root is computed with square roots, because a square root has the
  // same bits on every machine.
  return isWatched ? Math.sqrt(Math.sqrt(uniform)) : uniform;
}

/**
 * Chooses updates in the order of their keys (see `auditKey`), the greatest key first, as long as `credit` covers their
 * rows. The first update with more rows than the remaining credit is held, which means that it takes part in the next
 * draws too. A small swarm has enough credit for an audit only every few rounds. Because of the held update, all
 * updates since the last audit have the same chance, so no round is safe for cheats.
 * @param updates the updates of the round that has ended, and the update that is held
 * @param credit number of rows that audits may train now
 */
export function drawAudits(
  updates: readonly DrawnUpdate[],
  credit: number,
): { chosen: DrawnUpdate[]; held: DrawnUpdate | null } {
  const order = updates.toSorted((a, b) => b.key - a.key || a.round - b.round || (a.peer < b.peer ? -1 : 1));
  const chosen: DrawnUpdate[] = [];
  let left = credit;
  for (const update of order) {
    // Do not take a cheaper update with a smaller key instead, because then updates of large intervals would
    // never be audited.
    if (update.rows > left) return { chosen, held: update };
    chosen.push(update);
    left -= update.rows;
  }
  return { chosen, held: null };
}
