import { counts } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { Gap } from '../store/gaps.ts';
import { beforeGap, type LostCheckpoint } from './lost-records.ts';
import { acceptMerged, countMissing, restoreCheckpoint } from './restored-checkpoint.ts';

/** Checkpoints that fill a part of a gap. */
export interface GapPart {
  /** The checkpoints, oldest first. */
  readonly checkpoints: readonly LostCheckpoint[];
  /**
   * Round of the checkpoint of the database below these checkpoints. The checkpoints of the database between it and the gap are
   * not part of the history: the coordinator has made them with other nodes after the restore.
   */
  readonly after: number;
}

/** Returns those of the given checkpoints that continue the chain above a gap downwards, or the chain below it upwards. */
export function findPart(
  { below, above }: Gap,
  checkpoints: readonly LostCheckpoint[],
  { job, deps: { store } }: RunContext,
): GapPart {
  const byDigest = new Map(checkpoints.map((one) => [one.digest, one]));
  const chain: LostCheckpoint[] = [];
  for (let next = byDigest.get(above.parent); next !== undefined; ) {
    chain.unshift(next);
    // Only the first checkpoint of a job has no parent, and the database always has this checkpoint.
    const parent = next.checkpoint.parent!;
    const reached = store.rounds.checkpointOf(job, parent);
    if (reached !== null) return { checkpoints: chain, after: reached.round };
    next = byDigest.get(parent);
  }
  const lowest =
    chain[0]?.checkpoint ??
    verifyMessage('checkpoint', store.rounds.checkpoint(job, above.round)!.envelope).message;
  // The chain has one checkpoint for each of its rounds, so it shows which checkpoints of the database do not belong to it.
  const from = lowest.round > below.round ? below : store.rounds.newestCheckpointBefore(job, lowest.round)!;
  return { checkpoints: [...beforeGap(from.digest, lowest, checkpoints), ...chain], after: from.round };
}

/** Adds a part of a gap to the database. The caller must call this function in a transaction. */
export function addPart({ above }: Gap, { checkpoints, after }: GapPart, context: RunContext): void {
  const { job, deps } = context;
  const { rounds, gaps, updates, blobs } = deps.store;
  const counted = rounds.count(job, 'checkpoint');
  gaps.clear(job, after, above.round);
  for (const use of ['adapter', 'step', 'update', 'audit'] as const) {
    blobs.release(job, use, after + 1, above.round - 1);
  }
  const isKnown = (peer: string, update: string): boolean =>
    counts(updates.receipt(job, peer, update)?.code ?? 'null-round');
  for (const one of checkpoints) {
    restoreCheckpoint(one, new Set(), context);
    acceptMerged(one.checkpoint, isKnown, context);
  }
  countMissing({ after, before: above.round }, counted, context);
}
