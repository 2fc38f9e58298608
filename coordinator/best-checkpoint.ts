import type { Store, StoredCheckpoint } from './store/store.ts';

/**
 * Returns the best checkpoint of a job so far. If the operator has chosen a metric for the job's tasks, this is the
 * checkpoint with the best value of the metric and, among equal values, the lowest held-out loss. Without a metric, it
 * is the checkpoint with the lowest held-out loss. Checkpoints before the newest roll-back do not count, because the
 * operator may have rolled back an adapter that had the best value. Returns null if no checkpoint has a value.
 */
export function bestCheckpoint(
  job: string,
  { tasks, rounds }: Pick<Store, 'tasks' | 'rounds'>,
): StoredCheckpoint | null {
  const isByTasks = (tasks.of(job)?.metric ?? null) !== null;
  if (!isByTasks) return rounds.lowestLoss(job);
  const best = tasks.highestScore(job);
  return best && rounds.checkpoint(job, best.round);
}
