import { raceSignal } from 'race-signal';
import { jobTraining } from '../../lora/train/config.ts';
import type { Workload } from '../../lora/train/devices/fallback.ts';
import type { JobOfTrainer, TrainerOptions } from '../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { ValidationJob } from '../context.ts';

export interface SharedTrainerOptions extends Pick<TrainerOptions, 'modelDir' | 'cacheDir' | 'compute'> {
  readonly onLog: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * A trainer process for all jobs that have the same base and are computed with the same settings. The process works for
 * one job at a time. It keeps the base when it switches to another job, and is started again after it has died.
 */
export class SharedTrainer {
  readonly #options: SharedTrainerOptions;
  /** Digests of the jobs that have used the process and have not been released. */
  readonly jobs = new Set<string>();
  /** Number of computations that wait for the process or use it. */
  users = 0;
  #process: Promise<TrainerProcess> | null = null;
  /** The job and the settings for which the process is ready; null if they are not known. */
  #current: { readonly job: string; readonly load: Workload } | null = null;
  /** Settles when all computations so far have ended. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: SharedTrainerOptions) {
    this.#options = options;
  }

  /**
   * Waits until earlier computations have ended, switches the process to the job, and computes.
   * @param options.mustEnd decides after an error whether the process must end, because the next attempt has other
   *   settings. A process that has died is always replaced.
   */
  async run<T>(
    job: ValidationJob,
    load: Workload,
    work: (process: TrainerProcess) => Promise<T>,
    { signal, mustEnd }: { signal: AbortSignal; mustEnd: (error: unknown) => boolean },
  ): Promise<T> {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = before.then(() => ended);
    try {
      await raceSignal(before, signal);
      return await work(await this.#readyFor(job, load));
    } catch (error) {
      if (mustEnd(error)) await this.stop();
      throw error;
    } finally {
      end();
    }
  }

  /** Ends the process. A computation that uses the process fails. The next computation starts a new process. */
  async stop(): Promise<void> {
    const process = this.#process;
    this.#process = null;
    this.#current = null;
    // A process that failed to start needs no stop.
    const started = await process?.catch(() => null);
    await started?.stop();
  }

  async #readyFor({ job, manifest }: ValidationJob, load: Workload): Promise<TrainerProcess> {
    // A failed start was reported to the computation that needed the process. This computation starts a new process.
    const process = await this.#process?.catch(() => null);
    const { lora } = manifest;
    const training = { ...jobTraining(manifest), microBatch: load.microBatch };
    if (process === undefined || process === null || !process.alive)
      return this.#start({ lora, training }, job, load);
    if (this.#current?.job === job && this.#current.load === load) return process;
    this.#current = null;
    await process.turnTo({ lora, training, checkpointing: load.compute.checkpointing });
    this.#current = { job, load };
    return process;
  }

  #start(
    settings: Omit<JobOfTrainer, 'checkpointing'>,
    job: string,
    load: Workload,
  ): Promise<TrainerProcess> {
    const { onLog, signal, ...base } = this.#options;
    this.#current = { job, load };
    this.#process = TrainerProcess.start({ ...base, ...settings }, { onLog, signal });
    return this.#process;
  }
}
