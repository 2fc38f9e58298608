import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Row } from '../../lora/data/row.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import type { Compute } from '../../lora/train/compute.ts';
import { resolveDevices } from '../../lora/train/devices/choose.ts';
import {
  type Fallback,
  fallbackFor,
  fallbackValues,
  type Workload,
} from '../../lora/train/devices/fallback.ts';
import type { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { EvaluateOptions, StepsMade, StepsToMake, ValidationJob, Validator } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { decodeHeldOut, gateRows } from './held-out.ts';
import { SharedTrainer } from './shared-trainer.ts';

export interface TrainerValidatorOptions {
  readonly home: string;
  /**
   * Device and settings. The setting for gradient checkpointing has no effect here, because gradients always use
   * gradient checkpointing, and evaluations have no backward pass.
   */
  readonly compute: Compute;
  /** Reason for the device of `compute`, for the log. @default the user chose it */
  readonly engineReason?: string;
}

export interface TrainerValidatorDeps {
  /** Returns the folder of a base. */
  readonly baseFolder: (base: Manifest['base']) => Promise<string>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Returns a job's packed held-out data; null for an unknown job. */
  readonly heldOut: (job: string) => Uint8Array | null;
}

/** Maximum number of trainer processes, busy or idle, because each process holds a base model in memory. */
const PROCESSES = 2;

/** A computation in the trainer process of a job's base. */
type Work<T> = (trainer: TrainerProcess, signal: AbortSignal) => Promise<T>;

/**
 * Evaluates adapters and computes gradients in one trainer process per base, which the jobs on this base use in turns.
 * The process is started on first use, and again after it has died. If its device fails, the process is restarted with
 * a smaller micro-batch or on the CPU, and the computation starts again. The losses then differ only by rounding
 * errors, which are far smaller than the changes of the loss that the gate tolerates.
 */
export class TrainerValidator implements Validator {
  readonly #options: TrainerValidatorOptions;
  readonly #deps: TrainerValidatorDeps;
  /** The processes by base and settings for computing. The least recently used process is first. */
  readonly #processes = new Map<string, SharedTrainer>();
  /** Emits `ended` after each computation. */
  readonly #turns = new EventEmitter().setMaxListeners(0);
  /** Settings of each job: the settings for its base or, after its device has failed, a fallback. */
  readonly #loads = new Map<string, Promise<Workload>>();
  /** Held-out data of jobs that the store does not contain yet. */
  readonly #unrecorded = new Map<string, Uint8Array>();
  /** The base of each running audit, by the controller that stops the audit when more urgent work arrives. */
  readonly #audits = new Map<AbortController, string>();
  readonly #life = new AbortController();

  constructor(options: TrainerValidatorOptions, deps: TrainerValidatorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /**
   * Evaluates an adapter for a job that is not in the store yet. If the evaluation fails, the job is
   * released.
   */
  async measure(
    { job, manifest, heldOut }: ValidationJob & { heldOut: Uint8Array },
    adapter: readonly Float32Array[],
    options: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]> {
    this.#unrecorded.set(job, heldOut);
    try {
      return await this.evaluate({ job, manifest }, adapter, { ...options, onFallback: () => {} });
    } catch (error) {
      await this.release(job);
      throw error;
    } finally {
      this.#unrecorded.delete(job);
    }
  }

  async evaluate(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]> {
    const rows = this.#rows(job.job, job.manifest);
    return this.losses(job, adapter, rows, options);
  }

  gradient(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<LossGradient> {
    this.#stopAudits(job);
    const { onProgress } = options;
    return this.#run(job, options, (trainer, signal) =>
      trainer.lossGradient({ adapter, rows, signal, onProgress }),
    );
  }

  losses(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]> {
    this.#stopAudits(job);
    const { onProgress } = options;
    return this.#run(job, options, (trainer, signal) =>
      trainer.evaluate({ adapter, rows, signal, onProgress }),
    );
  }

  async train(
    job: ValidationJob,
    training: StepsToMake,
    { signal, pause, onFallback }: EvaluateOptions & { pause: AbortSignal },
  ): Promise<StepsMade> {
    const urgent = new AbortController();
    const stop = AbortSignal.any([signal, pause, urgent.signal]);
    const isPaused = (): boolean => stop.aborted && !signal.aborted && !this.#life.signal.aborted;
    this.#audits.set(urgent, job.manifest.base.digest);
    try {
      return await this.#run(job, { signal: stop, onFallback }, (trainer, inner) =>
        trainer.trainPart({ ...training, signal: inner }),
      );
    } catch (error) {
      // After a pause, this error means that the process was killed because it did not stop in time, or that no step
      // had begun.
      if (isPaused()) {
        const { adapter, optimizer } = training;
        return { adapter, optimizer, steps: 0, rows: 0, isComplete: false };
      }
      throw error;
    } finally {
      this.#audits.delete(urgent);
    }
  }

  /** Stops the audits on the base of a job, and all audits if every process is computing. */
  #stopAudits({ manifest }: ValidationJob): void {
    const working = [...this.#processes.values()].filter(({ users }) => users > 0);
    const isFull = working.length >= PROCESSES;
    for (const [urgent, base] of this.#audits) if (isFull || base === manifest.base.digest) urgent.abort();
  }

  async #run<T>(job: ValidationJob, { signal, onFallback }: EvaluateOptions, work: Work<T>): Promise<T> {
    const inner = AbortSignal.any([signal, this.#life.signal]);
    for (;;) {
      const load = await this.#load(job);
      const process = await this.#claim(job, load, inner);
      const next: { fallback: Fallback | null } = { fallback: null };
      const mustEnd = (error: unknown): boolean => {
        next.fallback = inner.aborted ? null : this.#fallBack(job, load, error);
        return next.fallback !== null;
      };
      try {
        return await process.run(job, load, (trainer) => work(trainer, inner), { signal: inner, mustEnd });
      } catch (error) {
        if (next.fallback === null) throw error;
        onFallback(next.fallback.reason);
      } finally {
        process.users--;
        this.#turns.emit('ended');
        // If `release` has ended the process and removed it from the list, a waiting computation has started it again.
        // Nothing else would end it now.
        const isLoaded = [...this.#processes.values()].includes(process);
        if (!isLoaded && process.users === 0) await process.stop();
      }
    }
  }

  /**
   * Returns the process for a job. If PROCESSES other processes are loaded, ends the least recently used one that is
   * idle. If none of them is idle, waits, because a process that ends while it computes loses its result.
   */
  async #claim(
    { job, manifest }: ValidationJob,
    { compute }: Workload,
    signal: AbortSignal,
  ): Promise<SharedTrainer> {
    const modelDir = await this.#deps.baseFolder(manifest.base);
    const key = JSON.stringify([manifest.base.digest, compute]);
    for (;;) {
      const known = this.#processes.get(key);
      if (known !== undefined || this.#processes.size < PROCESSES) {
        const process = known ?? this.#make(modelDir, compute);
        this.#processes.delete(key);
        this.#processes.set(key, process);
        process.jobs.add(job);
        process.users++;
        return process;
      }
      const idle = [...this.#processes].find(([, { users }]) => users === 0);
      if (idle === undefined) await once(this.#turns, 'ended', { signal });
      else await this.#end(...idle);
    }
  }

  async release(job: string): Promise<void> {
    this.#loads.delete(job);
    const unused = [...this.#processes].filter(([, { jobs }]) => jobs.delete(job) && jobs.size === 0);
    await Promise.all(unused.map((entry) => this.#end(...entry)));
  }

  async stop(): Promise<void> {
    this.#life.abort(coordinatorError('STOPPED', 'the coordinator is stopping', {}));
    await Promise.all([...this.#processes].map((entry) => this.#end(...entry)));
  }

  async #end(key: string, process: SharedTrainer): Promise<void> {
    this.#processes.delete(key);
    await process.stop();
  }

  /** Chooses settings with less memory for the job. Returns null if no settings would help. */
  #fallBack({ job, manifest }: ValidationJob, before: Workload, error: unknown): Fallback | null {
    const { microBatch } = manifest.training;
    const asked = { compute: { ...this.#options.compute, checkpointing: false }, microBatch };
    const fallback = fallbackFor(asked, before, error);
    if (fallback === null) return null;
    this.#loads.set(job, Promise.resolve(fallback));
    const code = isSwarmError(error) ? error.code : null;
    this.#deps.log.warn({ job: manifest.name, code, ...fallbackValues(fallback) }, 'validator-restarted');
    return fallback;
  }

  #rows(job: string, { acceptance }: Manifest): Row[] {
    const bytes = this.#unrecorded.get(job) ?? this.#deps.heldOut(job);
    if (!bytes) throw coordinatorError('HELD_OUT_MISSING', `job ${job} has no held-out data`, { job });
    return gateRows(decodeHeldOut(bytes), acceptance.heldOutRows);
  }

  #load({ job, manifest }: ValidationJob): Promise<Workload> {
    const known = this.#loads.get(job);
    if (known !== undefined) return known;
    const load = this.#deps.baseFolder(manifest.base).then((dir) => this.#choose(dir, manifest));
    this.#loads.set(job, load);
    // The caller gets the error. The next call tries again.
    load.catch(() => this.#loads.delete(job));
    return load;
  }

  async #choose(modelDir: string, { training }: Manifest): Promise<Workload> {
    const { home, compute: asked, engineReason = 'set by the user' } = this.#options;
    const { clock, log } = this.#deps;
    const { compute, reason } = await resolveDevices(asked, {
      model: await openBase(modelDir),
      recordDir: join(home, 'engines'),
      now: clock.now(),
      signal: this.#life.signal,
    });
    log.info({ engine: compute.devices[0].engine, reason: reason ?? engineReason }, 'engine-chosen');
    // The coordinator's machine may have only as much memory as evaluations need. Gradients need more, so they always
    // use gradient checkpointing.
    return { compute: { ...compute, checkpointing: true }, microBatch: training.microBatch };
  }

  #make(modelDir: string, compute: Workload['compute']): SharedTrainer {
    const cacheDir = join(this.#options.home, 'cache');
    const onLog = (line: string): void => this.#deps.log.debug({ line }, 'validator-output');
    return new SharedTrainer({ modelDir, cacheDir, compute, onLog, signal: this.#life.signal });
  }
}
