import type { CheckpointTasks, JobTasksView, SettingsChange } from '../../protocol/api/job-parts.ts';
import { changedSettings } from '../../protocol/job/settings.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { JobRun } from '../job-run.ts';
import type { JobTasks, Store, TaskResult } from '../store/store.ts';

/** The results of a job's checkpoints. */
export interface EvaluatedCheckpoints {
  readonly byRound: ReadonlyMap<number, CheckpointTasks>;
  /** Round of the best checkpoint; null if no checkpoint has a value to compare. */
  readonly best: number | null;
}

/** Returns the tasks of a job and the newest and the best value of its metric; null if the job has no tasks. */
export function jobTasks(job: string, { tasks }: Store): JobTasksView | null {
  const settings = tasks.of(job);
  if (settings === null) return null;
  const [newest, best] = [tasks.newest(job), tasks.highestScore(job)];
  return {
    every: settings.every,
    metric: settings.metric?.figure ?? null,
    newest: newest && { round: newest.round, value: metricValue(newest, settings) },
    best: best && { round: best.round, value: metricValue(best, settings)! },
  };
}

/**
 * Returns the task results of the checkpoints of some rounds, and which checkpoint of the job is the best. If the
 * operator has chosen no metric, the held-out loss decides.
 */
export function checkpointTasks(
  job: string,
  store: Store,
  rounds: { readonly from: number; readonly to: number },
): EvaluatedCheckpoints {
  const { tasks } = store;
  const settings = tasks.of(job);
  const byRound = new Map(
    tasks.results(job, rounds).map((result): [number, CheckpointTasks] => {
      const { figures, reason, seconds, at } = result;
      return [result.round, { figures, value: metricValue(result, settings), reason, seconds, at }];
    }),
  );
  return { byRound, best: bestCheckpoint(job, store)?.round ?? null };
}

function metricValue({ figures }: TaskResult, settings: JobTasks | null): number | null {
  const metric = settings?.metric ?? null;
  return metric === null ? null : (figures?.[metric.figure] ?? null);
}

/** Returns the changes of a job's settings, oldest first. */
export function settingsChanges({ context: { settings } }: JobRun): SettingsChange[] {
  return settings.changes.map(({ digest, record }) => {
    const { sequence, fromRound, values, reason, issuedAt } = record;
    const changes = changedSettings(settings.before(sequence), values);
    return { sequence, digest, fromRound, changes, values, reason, at: issuedAt };
  });
}
