import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { CheckpointFolders } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import type { Outbox } from '../record/outbox.ts';
import type { Store } from '../store/store.ts';

/** Dependencies of the classes that evaluate checkpoints or generate samples with them. */
export interface CheckpointWorkDeps {
  readonly coordinator: Pick<Coordinator, 'jobs' | 'find'>;
  readonly store: Store;
  /** Returns the folder of a base, in Hugging Face layout. */
  readonly baseFolder: (base: Manifest['base']) => Promise<string>;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The outcome of work on a checkpoint. */
export interface Outcome<T> {
  /** The result; null if the work failed. */
  readonly result: T | null;
  /** Reason why the work failed; empty otherwise. */
  readonly reason: string;
  readonly seconds: number;
}

export interface CheckpointWork<T> {
  readonly round: number;
  /** Name of the log entry that is written if the work fails, such as `tasks-not-evaluated`. */
  readonly onFailure: string;
  readonly signal: AbortSignal;
  compute(): Promise<T>;
  /** Stores the outcome, in a transaction. */
  record(outcome: Outcome<T>, outbox: Outbox): void;
}

/**
 * Calls `compute` for a checkpoint, and records its result or the reason of its failure. Records nothing if
 * the signal aborts, if a recovery has removed the checkpoint meanwhile, or if `compute` fails after the
 * weights of the checkpoint were deleted.
 */
export async function workOn<T>(
  { context: { job, stored } }: JobRun,
  { round, onFailure, signal, compute, record }: CheckpointWork<T>,
  { coordinator, store, clock, log }: CheckpointWorkDeps,
): Promise<void> {
  const { digest } = store.rounds.checkpoint(job, round)!;
  const since = clock.monotonic();
  let result: T | null = null;
  let reason = '';
  try {
    result = await compute();
  } catch (error) {
    // If the weights of the checkpoint were deleted meanwhile, the work is no longer needed.
    if (signal.aborted || store.rounds.checkpoint(job, round)?.weights !== 'held') return;
    reason = messageOf(error);
    log.warn({ job: stored.name, round, error }, onFailure);
  }
  if (signal.aborted) return;
  const seconds = (clock.monotonic() - since) / 1000;
  // Drop the result if a recovery has started the job again meanwhile, without this checkpoint.
  if (store.rounds.checkpoint(job, round)?.digest !== digest) return;
  coordinator.find(job).driver.transact((outbox) => record({ result, reason, seconds }, outbox));
}
