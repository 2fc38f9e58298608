import type { Logger } from '../../common/logger.ts';
import type { Compute, ComputeOnDevices } from '../../lora/train/compute.ts';
import { type Fallback, fallbackFor } from '../../lora/train/devices/fallback.ts';
import { availableMemory } from '../../lora/train/memory/available-memory.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import { type FittedJob, fitJob, type JobToTrain } from './job-to-train.ts';

/** The settings with which a trainer process runs, for each job on the base that the process has loaded. */
export class TrainerSettings {
  /** The settings that the owner of the node chose. */
  readonly #asked: Compute;
  readonly #log: Logger;
  #job: JobToTrain | null = null;
  #current: TrainerOptions | null = null;
  /** The requested setting of gradient checkpointing. `auto` is decided separately for each job on this base. */
  #checkpointing: Compute['checkpointing'] = 'auto';
  /** Bytes of memory that were available before the process started. */
  #available = 0;
  /**
   * Settings of the jobs on this base. The key is the job's `purpose`. A fallback changes the settings of the current
   * job.
   */
  readonly #fitted = new Map<string, FittedJob>();
  /** Text that tells people why the settings differ from the owner's settings; null if they do not differ. */
  note: string | null = null;

  constructor(options: { compute: Compute }, deps: { log: Logger }) {
    this.#asked = options.compute;
    this.#log = deps.log;
  }

  /** Settings of the process for its current job; null before the first job. */
  get current(): TrainerOptions | null {
    return this.#current;
  }

  /** Takes the settings of the first job on a base. `fitFirst` decides the micro-batch and gradient checkpointing later. */
  begin(job: JobToTrain, compute: ComputeOnDevices, reason: string | null): void {
    const { modelDir, cacheDir, lora, training } = job;
    this.#job = job;
    this.note = reason;
    this.#checkpointing = compute.checkpointing;
    this.#fitted.clear();
    const undecided = { ...compute, checkpointing: compute.checkpointing === true };
    this.#current = { modelDir, cacheDir, lora, training, compute: undecided };
  }

  /**
   * Chooses the micro-batch of the first job on a base, and whether the available memory requires gradient checkpointing.
   * If trainer processes of other bases must end to free memory, wait for their end before this call.
   * @param mappedBytes bytes of weights that the trainer processes of other bases map from files. These bytes
   * are subtracted from the available memory, because the system counts them as available
   */
  async fitFirst(
    job: JobToTrain,
    compute: ComputeOnDevices,
    { mappedBytes }: { mappedBytes: number },
  ): Promise<void> {
    this.#available = availableMemory() - mappedBytes;
    this.take(job, await this.#fit(job, compute), compute);
  }

  /** Returns the settings of another job on the same base. */
  fitNext(job: JobToTrain): Promise<FittedJob> {
    return this.#fit(job, this.wanted);
  }

  /** The devices of the base, with the requested setting of gradient checkpointing. Read it only after `begin`. */
  get wanted(): ComputeOnDevices {
    return { ...this.#current!.compute, checkpointing: this.#checkpointing };
  }

  /** Makes a job the current one. */
  take(job: JobToTrain, fitted: FittedJob, compute: ComputeOnDevices = this.#current!.compute): void {
    const { modelDir, cacheDir, lora, purpose } = job;
    const { training, checkpointing } = fitted;
    this.#job = job;
    this.#fitted.set(purpose, fitted);
    this.#current = { modelDir, cacheDir, lora, training, compute: { ...compute, checkpointing } };
  }

  /** Returns the fallback that a restart after this error uses; null if the restart uses the same settings again. */
  fallback(error: unknown): Fallback | null {
    if (this.#current === null) return null;
    const { compute, training } = this.#current;
    const asked = { compute: this.#asked, microBatch: this.#processorRows };
    return fallbackFor(asked, { compute, microBatch: training.microBatch }, error);
  }

  /** Changes the settings of the current job to those of a fallback. */
  takeFallback({ compute, microBatch, reason }: Fallback): void {
    const training = { ...this.#current!.training, microBatch };
    const { checkpointing } = compute;
    const fitted = { training, processorRows: this.#processorRows, checkpointing, notes: [] };
    this.take(this.#job!, fitted, compute);
    this.note = reason;
  }

  /** Micro-batch of the current job after a fallback to the processor. */
  get #processorRows(): number {
    const job = this.#job;
    return job === null ? 1 : (this.#fitted.get(job.purpose)?.processorRows ?? job.training.microBatch);
  }

  /**
   * Returns the micro-batch and the gradient checkpointing of a job. Chooses both if the process has not
   * trained the job before.
   */
  async #fit(job: JobToTrain, compute: ComputeOnDevices): Promise<FittedJob> {
    const known = this.#fitted.get(job.purpose);
    if (known !== undefined) return known;
    const fitted = await fitJob(job, { compute, available: this.#available }, this.#log);
    this.note = [this.note, ...fitted.notes].filter((note) => note !== null).join('; ');
    return fitted;
  }
}
