import type { StoredCheckpoint } from './rounds.ts';

/**
 * Returns the checkpoints whose training is part of the newest adapter, oldest first. Leaves out the initial checkpoint,
 * and checkpoints that a later roll-back has undone. Also leaves out roll-backs, because these add no training.
 * @param checkpoints all checkpoints of a job, oldest first
 */
export function lineageOf(checkpoints: readonly StoredCheckpoint[]): readonly StoredCheckpoint[] {
  const lineages = new Map<number, readonly StoredCheckpoint[]>();
  let newest: readonly StoredCheckpoint[] = [];
  for (const checkpoint of checkpoints) {
    const { round, restores } = checkpoint;
    if (restores !== null) newest = lineages.get(restores)!;
    else if (round > 0) newest = [...newest, checkpoint];
    lineages.set(round, newest);
  }
  return newest;
}
