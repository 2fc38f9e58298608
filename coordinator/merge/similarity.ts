import type { JobContext } from '../context.ts';
import type { Outbox } from '../record/outbox.ts';
import type { Assignment } from '../round/plan.ts';
import type { Alike } from './merge.ts';

/**
 * Whether every node of a round trained rows of its own. Where the data are fewer than a round takes, intervals go
 * round and nodes share rows: then honest updates can be the same to the last bit (measured: cosine 1.000 with 16 rows
 * for three nodes), and likeness says nothing.
 */
export function ownRows(assignments: readonly Assignment[], rows: number): boolean {
  return assignments.every(({ end }) => end <= rows);
}

/**
 * Writes down which updates of a checkpoint are as alike as copies, in the transaction of its commit. It is for people to
 * look at: nothing is refused for it (docs/decisions/020-rounds.md says why).
 */
export function noteLikeness(
  alike: readonly Alike[],
  { job, manifest, deps }: JobContext,
  outbox: Outbox,
): void {
  const { rounds, updates, likenesses } = deps.store;
  for (const { round, peers, cosine, overlap } of alike) {
    const opened = rounds.find(job, round);
    if (!opened || !ownRows(opened.assignments, manifest.data.rows)) continue;
    const arrivedAt = (peer: string): number => updates.find(job, round, peer)!.arrivedAt;
    const [earlier, later] = peers.toSorted((a, b) => arrivedAt(a) - arrivedAt(b)) as [string, string];
    likenesses.insert(job, { round, earlier, later, cosine, overlap });
    outbox.afterwards(() => deps.log.warn({ round, earlier, later, cosine, overlap }, 'updates-alike'));
  }
}
