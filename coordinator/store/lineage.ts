import type { StoredCheckpoint } from './rounds.ts';

/**
 * Returns the checkpoints whose training is part of the newest adapter, oldest first, without the initial one. A roll-back
 * undoes the checkpoints after the one that it restores. The roll-back itself adds no training, so it is left out too.
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
