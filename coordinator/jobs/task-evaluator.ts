import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { FlatFigures, TaskProcessRequest } from '../../lora/evaluate/process/messages.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CheckpointFolders } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { byPriority } from '../queue.ts';
import { isOver } from '../round/job-phase.ts';
import type { JobTasks, Store } from '../store/store.ts';
import type { WorkSource } from './background-work.ts';

export interface TaskEvaluatorOptions {
  /** Folder of converted weights. */
  readonly cacheDir: string;
  /** The device that computes evaluations, and its settings. */
  readonly compute: TaskProcessRequest['compute'];
}

export interface TaskEvaluatorDeps {
  readonly coordinator: Pick<Coordinator, 'jobs' | 'find'>;
  readonly store: Store;
  /** Returns the folder of a base, in Hugging Face layout. */
  readonly baseFolder: (base: Manifest['base']) => Promise<string>;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Evaluates an adapter on tasks. The process of the coordinator must not be blocked meanwhile. */
  readonly evaluate: (
    request: TaskProcessRequest,
    options: { signal: AbortSignal; onLog: (line: string) => void },
  ) => Promise<FlatFigures>;
}

/**
 * Evaluates checkpoints on the tasks of their jobs, one after the other. A checkpoint whose weights are deleted before
 * its turn is left out. An evaluation that a restart interrupts begins again.
 */
export class TaskEvaluator implements WorkSource {
  readonly #options: TaskEvaluatorOptions;
  readonly #deps: TaskEvaluatorDeps;

  constructor(options: TaskEvaluatorOptions, deps: TaskEvaluatorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  next(): ReturnType<WorkSource['next']> {
    const due = this.#nextDue();
    return due && ((signal) => this.#evaluate(due.run, due.tasks, due.round, signal));
  }

  /** Returns the oldest due checkpoint of the job with the highest priority. */
  #nextDue(): { run: JobRun; tasks: JobTasks; round: number } | null {
    const { coordinator, store } = this.#deps;
    for (const run of byPriority(coordinator.jobs())) {
      const { job } = run.context;
      const tasks = store.tasks.of(job);
      if (tasks === null) continue;
      const last = isOver(run.driver.state) ? run.record.checkpoint.checkpoint.round : null;
      const due = store.tasks
        .unevaluated(job)
        .find(({ round, ordinal }) => ordinal % tasks.every === 0 || round === last);
      if (due !== undefined) return { run, tasks, round: due.round };
    }
    return null;
  }

  async #evaluate(
    run: JobRun,
    { files, metric, limit }: JobTasks,
    round: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { coordinator, store, baseFolder, folders, clock, log, evaluate } = this.#deps;
    const { cacheDir, compute } = this.#options;
    const { job, stored, manifest } = run.context;
    const { digest } = store.rounds.checkpoint(job, round)!;
    const since = clock.monotonic();
    const onLog = (line: string): void => log.debug({ line }, 'tasks-output');
    let figures: FlatFigures | null = null;
    let reason = '';
    try {
      const base = await baseFolder(manifest.base);
      const adapter = folders.path(stored.name, round);
      figures = await evaluate({ base, adapter, tasks: files, limit, compute, cacheDir }, { signal, onLog });
    } catch (error) {
      // If the weights of the checkpoint were deleted meanwhile, it is no longer among the checkpoints to evaluate.
      if (signal.aborted || store.rounds.checkpoint(job, round)?.weights !== 'held') return;
      reason = messageOf(error);
      log.warn({ job: stored.name, round, error }, 'tasks-not-evaluated');
    }
    if (signal.aborted) return;
    const seconds = (clock.monotonic() - since) / 1000;
    const value = metric === null ? null : (figures?.[metric.figure] ?? null);
    const score = value === null ? null : metric!.higherIsBetter ? value : -value;
    // A recovery may have started the job again meanwhile, without this checkpoint.
    if (store.rounds.checkpoint(job, round)?.digest !== digest) return;
    coordinator.find(job).driver.transact((outbox) => {
      store.tasks.add(job, { round, figures, score, reason, seconds, at: clock.now() });
      if (figures === null) outbox.event({ type: 'tasks-failed', round, reason });
      else {
        const isBest = score !== null && bestCheckpoint(job, store)?.round === round;
        const name = metric?.figure ?? null;
        outbox.event({ type: 'tasks-evaluated', round, figures, metric: name, value, isBest, seconds });
      }
    });
  }
}
