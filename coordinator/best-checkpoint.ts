import type { Store } from './store/store.ts';

/**
 * Returns the round of the best checkpoint of a job so far: by the metric that the job's tasks choose, or else by the
 * held-out loss. null if none was measured.
 */
export function bestRound(job: string, { tasks, rounds }: Pick<Store, 'tasks' | 'rounds'>): number | null {
  const isByTasks = (tasks.of(job)?.metric ?? null) !== null;
  return (isByTasks ? tasks.best(job) : rounds.best(job))?.round ?? null;
}
