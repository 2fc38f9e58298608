import type { FlatFigures, TaskProcessRequest } from '../../lora/evaluate/process/messages.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { JobRun } from '../job-run.ts';
import { byPriority } from '../queue.ts';
import { isOver } from '../round/job-phase.ts';
import type { JobTasks } from '../store/store.ts';
import type { WorkSource } from './background-work.ts';
import { type CheckpointWorkDeps, workOn } from './checkpoint-work.ts';
import type { ScorerEvaluation, ScorerFigures } from './scorer-evaluation.ts';

export interface TaskEvaluatorOptions {
  /** Folder of converted weights. */
  readonly cacheDir: string;
  /** The device that computes evaluations, and its settings. */
  readonly compute: TaskProcessRequest['compute'];
}

export interface TaskEvaluatorDeps extends CheckpointWorkDeps {
  /** Lets a node of the operator evaluate in the coordinator's place. @default the coordinator evaluates itself */
  readonly scorers?: Pick<ScorerEvaluation, 'evaluate'>;
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

  #evaluate(
    run: JobRun,
    { files, metric, limit }: JobTasks,
    round: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { store, baseFolder, folders, clock, log, evaluate, scorers } = this.#deps;
    const { cacheDir, compute } = this.#options;
    const { job, stored, manifest } = run.context;
    const onLog = (line: string): void => log.debug({ line }, 'tasks-output');
    return workOn<Pick<ScorerFigures, 'figures'> & Partial<ScorerFigures>>(
      run,
      {
        round,
        onFailure: 'tasks-not-evaluated',
        signal,
        compute: async () => {
          const base = await baseFolder(manifest.base);
          const adapter = folders.path(stored.name, round);
          const request = { base, adapter, tasks: files, limit, compute, cacheDir };
          const delegated = await scorers?.evaluate(run, { ...request, round }, signal);
          return delegated ?? { figures: await evaluate(request, { signal, onLog }) };
        },
        record: ({ result, reason, seconds }, outbox) => {
          const { figures, scorer } = result ?? { figures: null };
          const value = metric === null ? null : (figures?.[metric.figure] ?? null);
          const score = value === null ? null : metric!.higherIsBetter ? value : -value;
          store.tasks.add(job, { round, figures, score, reason, seconds, at: clock.now() });
          if (figures === null) outbox.event({ type: 'tasks-failed', round, reason });
          else {
            const isBest = score !== null && bestCheckpoint(job, store)?.round === round;
            const name = metric?.figure ?? null;
            const by = scorer === undefined ? {} : { scorer };
            outbox.event({
              type: 'tasks-evaluated',
              round,
              figures,
              metric: name,
              value,
              isBest,
              seconds,
              ...by,
            });
          }
        },
      },
      this.#deps,
    );
  }
}
