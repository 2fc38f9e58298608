import type { JobRun } from '../job-run.ts';
import { isOpen } from '../round/job-phase.ts';
import type { BlobUse } from '../store/blobs.ts';
import type { Store } from '../store/store.ts';

/** Uses of the blobs that every reader of a job may fetch. Blobs of all other uses are payloads of updates. */
const FOR_READERS: readonly BlobUse[] = ['job', 'adapter', 'step'];

/**
 * Returns whether a peer may fetch a blob. One of the jobs that need the blob must allow it:
 *
 * - An open job lets every peer fetch its base, data, checkpoints and, after their round has closed, its updates.
 * - Any other job lets its members and readers fetch base, data and checkpoints. Its updates go to members and readers
 *   with the role `observer` or `operator`, after their round has closed. Contributors do not need the updates of others.
 *
 * A member with the role `operator` may also fetch the blobs that the coordinator has offered to it (see decision 101).
 *
 * Returns false both for a blob that the peer may not have and for a blob that does not exist.
 */
export function mayFetch(
  peer: string,
  digest: string,
  { jobs, store }: { jobs: readonly JobRun[]; store: Store },
): boolean {
  const readable = new Map(jobs.filter((run) => run.mayRead(peer)).map((run) => [run.context.job, run]));
  // For most strangers, the answer is known here, without a query of the database.
  if (readable.size === 0) return false;
  for (const { offered, members } of readable.values()) {
    if (offered.isFor(peer, digest) && members.list.get(peer)?.role === 'operator') return true;
  }
  return store.blobs.usesOf(digest).some(({ job, use, round }) => {
    const run = readable.get(job);
    return run !== undefined && (FOR_READERS.includes(use) || mayReadUpdate(peer, run, round));
  });
}

function mayReadUpdate(peer: string, run: JobRun, round: number): boolean {
  const { state } = run.driver;
  if (isOpen(state) && round >= state.round) return false;
  if (run.context.stored.admission.kind === 'open') return true;
  const role = run.members.list.get(peer)?.role ?? run.members.invites.roleOf(peer);
  return role === 'observer' || role === 'operator';
}
