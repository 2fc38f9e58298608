/** The choice of the updates that the coordinator trains again. */
import { createHash } from 'node:crypto';

/** An update that may be chosen. */
export interface AuditCandidate {
  readonly peer: string;
  /** The round that the update was trained for. */
  readonly round: number;
  /** Number of rows that its audit would train. */
  readonly rows: number;
  /** Whether the author is new or has low shares. Such an author counts as four others. */
  readonly isDoubtful: boolean;
}

/** An update with the random number by which it is drawn. */
export interface DrawnUpdate {
  readonly peer: string;
  readonly round: number;
  readonly rows: number;
  /** Between 0 and 1. */
  readonly key: number;
}

/**
 * Returns the key of an update: a uniform random number, or for a doubtful author the largest of four such numbers. The
 * update with the greatest key is drawn first, so the chance of an update is proportional to its weight of 1 or 4
 * (Efraimidis and Spirakis 2006, weighted reservoir sampling).
 * @param seed 32 random bytes, drawn after the round had closed
 */
export function auditKey(
  seed: Uint8Array,
  { peer, round, isDoubtful }: Pick<AuditCandidate, 'peer' | 'round' | 'isDoubtful'>,
): number {
  const hash = createHash('sha256').update(seed).update(`${peer} ${round}`).digest();
  const uniform = (hash.readUIntBE(0, 6) + 0.5) / 2 ** 48;
  // The fourth root has the distribution of the largest of four uniform numbers. Square roots have the same bits on
  // every machine.
  return isDoubtful ? Math.sqrt(Math.sqrt(uniform)) : uniform;
}

/**
 * Chooses the updates with the greatest keys, as long as the rows suffice. The best remaining update is held, and takes
 * part in the next draws. A small swarm can afford an audit only every few rounds, and every update since the last
 * audit has the same chance, so its nodes cannot know a round that is safe.
 * @param updates the updates of the round that has ended, and the one that is held
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
    // The search ends here, because large intervals would never be audited if cheaper updates were preferred.
    if (update.rows > left) return { chosen, held: update };
    chosen.push(update);
    left -= update.rows;
  }
  return { chosen, held: null };
}
