import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Row } from '../../lora/data/row.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import type { Compute } from '../../lora/train/compute.ts';
import { jobTraining } from '../../lora/train/config.ts';
import { resolveDevices } from '../../lora/train/devices/choose.ts';
import { fallbackFor, fallbackValues, type Workload } from '../../lora/train/devices/fallback.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { EvaluateOptions, StepsMade, StepsToMake, ValidationJob, Validator } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { decodeHeldOut, gateRows } from './held-out.ts';

export interface TrainerValidatorOptions {
  readonly home: string;
  /**
   * Device and settings. The setting for gradient checkpointing has no effect here, because gradients always use
   * gradient checkpointing, and evaluations have no backward pass.
   */
  readonly compute: Compute;
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

/** A computation in a job's trainer process. */
type Work<T> = (trainer: TrainerProcess, ready: Ready, signal: AbortSignal) => Promise<T>;

interface Ready {
  readonly load: Promise<Workload>;
  readonly process: Promise<TrainerProcess>;
  readonly rows: readonly Row[];
}

/**
 * Evaluates adapters and computes gradients in one trainer process per job. The process is started on first use, and
 * again after it has died. If its device fails, the process is restarted with a smaller micro-batch or on the CPU, and
 * the computation starts again. The losses then differ only by rounding errors, which are far smaller than the changes
 * of the loss that the gate tolerates.
 */
export class TrainerValidator implements Validator {
  readonly #options: TrainerValidatorOptions;
  readonly #deps: TrainerValidatorDeps;
  /** The process of each job, with the job's rows and settings. The least recently used process is first. */
  readonly #ready = new Map<string, Ready>();
  /** Jobs whose processes are computing: at most PROCESSES. */
  readonly #working: string[] = [];
  /** Emits `ended` after each computation. */
  readonly #turns = new EventEmitter().setMaxListeners(0);
  /** Fallback settings of jobs whose device failed. */
  readonly #fallbacks = new Map<string, Workload>();
  /** Held-out data of jobs that the store does not contain yet. */
  readonly #unrecorded = new Map<string, Uint8Array>();
  /** The job of each running audit, by the controller that stops the audit when more urgent work arrives. */
  readonly #audits = new Map<AbortController, string>();
  readonly #life = new AbortController();

  constructor(options: TrainerValidatorOptions, deps: TrainerValidatorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /**
   * Evaluates an adapter for a job that is not in the store yet. If the evaluation fails, ends the trainer process of the
   * job.
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

  evaluate(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]> {
    this.#stopAudits(job.job);
    return this.#run(job, options, (trainer, { rows }, signal) =>
      trainer.evaluate({ adapter, rows, signal }),
    );
  }

  gradient(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<LossGradient> {
    this.#stopAudits(job.job);
    return this.#run(job, options, (trainer, _, signal) => trainer.lossGradient({ adapter, rows, signal }));
  }

  losses(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]> {
    this.#stopAudits(job.job);
    return this.#run(job, options, (trainer, _, signal) => trainer.evaluate({ adapter, rows, signal }));
  }

  async train(
    job: ValidationJob,
    training: StepsToMake,
    { signal, pause, onFallback }: EvaluateOptions & { pause: AbortSignal },
  ): Promise<StepsMade> {
    const urgent = new AbortController();
    const stop = AbortSignal.any([signal, pause, urgent.signal]);
    const isPaused = (): boolean => stop.aborted && !signal.aborted && !this.#life.signal.aborted;
    this.#audits.set(urgent, job.job);
    try {
      return await this.#run(job, { signal: stop, onFallback }, (trainer, _, inner) =>
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

  /** Stops the audit of a job, and all audits if every process is computing. */
  #stopAudits(job: string): void {
    const isFull = this.#working.length >= PROCESSES;
    for (const [urgent, audited] of this.#audits) if (isFull || audited === job) urgent.abort();
  }

  async #run<T>(job: ValidationJob, { signal, onFallback }: EvaluateOptions, work: Work<T>): Promise<T> {
    const inner = AbortSignal.any([signal, this.#life.signal]);
    await this.#begin(job.job, inner);
    try {
      return await this.#runNow(job, { signal: inner, onFallback }, work);
    } finally {
      this.#working.splice(this.#working.indexOf(job.job), 1);
      this.#turns.emit('ended');
    }
  }

  /**
   * Waits until fewer than PROCESSES processes are computing. A process that computes must not be ended in favour of
   * another process, because its result would be lost.
   */
  async #begin(job: string, signal: AbortSignal): Promise<void> {
    while (this.#working.length >= PROCESSES) await once(this.#turns, 'ended', { signal });
    this.#working.push(job);
  }

  async #runNow<T>(job: ValidationJob, { signal, onFallback }: EvaluateOptions, work: Work<T>): Promise<T> {
    for (;;) {
      const ready = await this.#prepared(job);
      try {
        return await work(await ready.process, ready, signal);
      } catch (error) {
        const because = signal.aborted ? null : await this.#fallBack(job, ready, error);
        const process = await ready.process.catch(() => null);
        // Keep the process if it is alive, except if it must be restarted with other settings.
        if (because === null && process?.alive) throw error;
        if (this.#ready.get(job.job) === ready) this.#ready.delete(job.job);
        await process?.stop();
        if (because === null) throw error;
        onFallback(because);
      }
    }
  }

  async release(job: string): Promise<void> {
    this.#fallbacks.delete(job);
    await this.#end(job);
  }

  async stop(): Promise<void> {
    this.#life.abort(coordinatorError('STOPPED', 'the coordinator is stopping', {}));
    await Promise.all([...this.#ready.keys()].map((job) => this.#end(job)));
  }

  async #end(job: string): Promise<void> {
    const known = this.#ready.get(job);
    this.#ready.delete(job);
    await known?.process.then((process) => process.stop()).catch(() => {});
  }

  /**
   * Chooses settings with less memory for the job's next process. Returns the reason; null if no settings would help.
   */
  async #fallBack({ job, manifest }: ValidationJob, { load }: Ready, error: unknown): Promise<string | null> {
    const { microBatch } = manifest.training;
    const asked = { compute: { ...this.#options.compute, checkpointing: false }, microBatch };
    const before = await load.catch(() => null);
    const fallback = before && fallbackFor(asked, before, error);
    if (fallback === null) return null;
    this.#fallbacks.set(job, fallback);
    const code = isSwarmError(error) ? error.code : null;
    this.#deps.log.warn({ job: manifest.name, code, ...fallbackValues(fallback) }, 'validator-restarted');
    return fallback.reason;
  }

  async #prepared({ job, manifest }: ValidationJob): Promise<Ready> {
    const entry = this.#ready.get(job) ?? this.#make(job, manifest);
    this.#ready.delete(job);
    this.#ready.set(job, entry);
    for (const other of this.#ready.keys()) {
      if (this.#ready.size <= PROCESSES) break;
      if (!this.#working.includes(other)) await this.#end(other);
    }
    return entry;
  }

  #rows(job: string, { acceptance }: Manifest): Row[] {
    const bytes = this.#unrecorded.get(job) ?? this.#deps.heldOut(job);
    if (!bytes) throw coordinatorError('HELD_OUT_MISSING', `job ${job} has no held-out data`, { job });
    return gateRows(decodeHeldOut(bytes), acceptance.heldOutRows);
  }

  #make(job: string, manifest: Manifest): Ready {
    const rows = this.#rows(job, manifest);
    const modelDir = this.#deps.baseFolder(manifest.base);
    const known = this.#fallbacks.get(job);
    const load = known ? Promise.resolve(known) : modelDir.then((dir) => this.#choose(dir, manifest));
    const process = Promise.all([modelDir, load]).then(([dir, load]) => this.#start(dir, manifest, load));
    // Do not treat errors of these promises as unhandled. `#runNow` waits for both promises later, and reports the
    // errors.
    load.catch(() => {});
    process.catch(() => {});
    return { load, process, rows };
  }

  async #choose(modelDir: string, { training }: Manifest): Promise<Workload> {
    const { home, compute: asked } = this.#options;
    const { clock, log } = this.#deps;
    const { compute, reason } = await resolveDevices(asked, {
      model: await openBase(modelDir),
      recordDir: join(home, 'engines'),
      now: clock.now(),
      signal: this.#life.signal,
    });
    log.info({ engine: compute.devices[0].engine, reason: reason ?? 'set by the user' }, 'engine-chosen');
    // The coordinator's machine may have only as much memory as evaluations need. Gradients need more, so they always
    // use gradient checkpointing.
    return { compute: { ...compute, checkpointing: true }, microBatch: training.microBatch };
  }

  #start(modelDir: string, manifest: Manifest, { compute, microBatch }: Workload): Promise<TrainerProcess> {
    const options: TrainerOptions = {
      modelDir,
      cacheDir: join(this.#options.home, 'cache'),
      compute,
      lora: manifest.lora,
      training: { ...jobTraining(manifest), microBatch },
    };
    const onLog = (line: string): void => this.#deps.log.debug({ line }, 'validator-output');
    return TrainerProcess.start(options, { onLog, signal: this.#life.signal });
  }
}
