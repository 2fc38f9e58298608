import type { Store, StoredCheckpoint } from './store/store.ts';

/**
 * Returns the best checkpoint of a job so far. If the operator has chosen a metric for the job's tasks, it is the
 * checkpoint with the best value of this metric. Of several with the same value, it is the one with the lowest held-out
 * loss. In a job without a chosen metric, it is the checkpoint with the lowest held-out loss. Checkpoints before the
 * newest roll-back do not count, because the operator may have withdrawn an adapter although it had the best value.
 * Returns null if no checkpoint has a value.
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
