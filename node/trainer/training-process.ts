import { raceSignal } from 'race-signal';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import { deviceNames } from '../../lora/engines/names.ts';
import { type OnUndeleted, removeBases } from '../../lora/models/base/base-cleanup.ts';
import type { Compute, ComputeOnDevices } from '../../lora/train/compute.ts';
import { availableMemory } from '../../lora/train/memory/available-memory.ts';
import { fitsMemory, type MemoryEstimate } from '../../lora/train/memory/estimate.ts';
import type { ProcessUse } from '../../lora/train/process/messages.ts';
import type { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { nodeError } from '../errors.ts';
import { BaseTrainer, type TrainingProcessDeps, type TrainingProcessOptions } from './base-trainer.ts';
import { chooseDevices, type JobToTrain, jobToTrain, memoryWanted } from './job-to-train.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from './trainer.ts';

/**
 * Runs the trainer processes of a node, one for each base. One process at a time trains. When the next job has another
 * base, the process of the previous base stays loaded if both fit into the memory limit. Otherwise it ends.
 */
export class TrainingProcess implements NodeTrainer, ScoreTrainer {
  readonly #options: TrainingProcessOptions;
  readonly #deps: TrainingProcessDeps;
  readonly #life = new AbortController();
  /** The processes by the digest of their base, from the least to the most recently used. The last one trains. */
  readonly #loaded = new Map<string, BaseTrainer>();
  /** Number of restarts of processes that have ended. */
  #restarts = 0;
  #isPaused = false;

  constructor(options: TrainingProcessOptions, deps: TrainingProcessDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** The settings that the owner chose, with the memory limit as it is now. */
  get #asked(): Compute {
    const { compute } = this.#options;
    return { ...compute, memoryLimit: this.#deps.memoryLimit?.() ?? compute.memoryLimit };
  }

  get #current(): BaseTrainer | null {
    return [...this.#loaded.values()].at(-1) ?? null;
  }

  /**
   * Logs a file that could not be deleted. The file takes disk space that the check of the owner's limit does
   * not count.
   */
  readonly #onUndeleted: OnUndeleted = (undeleted) => this.#deps.log.warn(undeleted, 'base-not-removed');

  /**
   * Names of the devices that the trainer process uses. Before the first job, these are the devices that the owner
   * chose, or an empty text if the owner chose `auto`.
   */
  get engine(): string {
    const { devices } = this.#current?.settings.compute ?? this.#asked;
    return devices === 'auto' ? '' : deviceNames(devices, ', ');
  }

  get note(): string | null {
    return this.#current?.settings.note ?? null;
  }

  get restarts(): number {
    return [...this.#loaded.values()].reduce((sum, { restarts }) => sum + restarts, this.#restarts);
  }

  /**
   * Number of rounds that the processes have received and have not finished. These are the round in training, and
   * aborted rounds whose last micro-batch is still running.
   */
  get queue(): number {
    return [...this.#loaded.values()].reduce((sum, { queue }) => sum + queue, 0);
  }

  /** Returns the devices that compute with a base; null if no process has loaded the base. */
  devicesFor(base: string): ComputeOnDevices['devices'] | null {
    return this.#loaded.get(base)?.settings.compute.devices ?? null;
  }

  /**
   * Digests of the loaded bases, the memory of all processes together in bytes (as estimated), and the settings of the
   * current process; null before the first job.
   */
  get loaded(): {
    readonly bases: readonly string[];
    readonly memoryBytes: number;
    readonly compute: ComputeOnDevices;
  } | null {
    const current = this.#current;
    if (current === null) return null;
    const memoryBytes = [...this.#loaded.values()].reduce((sum, { memory }) => sum + memory.total, 0);
    const compute = { ...current.settings.compute, memoryLimit: this.#asked.memoryLimit };
    return { bases: [...this.#loaded.keys()], memoryBytes, compute };
  }

  /** Process id of the newest process of the current base; null if no process has started yet. */
  get pid(): number | null {
    return this.#current?.pid ?? null;
  }

  /**
   * Processor time and memory of all loaded processes together, each at its newest step, and the time of the newest
   * report on the monotonic clock; null before the first step. With several devices, only the process of the first
   * device counts.
   */
  get use(): (ProcessUse & { readonly at: number }) | null {
    const uses = [...this.#loaded.values()].flatMap(({ use }) => use ?? []);
    if (uses.length === 0) return null;
    return {
      cpuSeconds: uses.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
      residentBytes: uses.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
      at: Math.max(...uses.map(({ at }) => at)),
    };
  }

  async prepare(manifest: Manifest, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    const job = await jobToTrain(manifest, this.#options.home, this.#deps.blobs);
    if (job.purpose !== this.#current?.job.purpose) {
      const known = this.#loaded.get(job.base);
      if (known === undefined) await this.#load(job, signal);
      else await this.#turn(known, job);
    }
    return (await raceSignal(this.#living(), signal)).layout;
  }

  /** Makes a loaded process the current one, and switches it to a job on its base. */
  async #turn(trainer: BaseTrainer, job: JobToTrain): Promise<void> {
    const memory = await trainer.memoryFor(job);
    if (trainer.job.purpose !== job.purpose) await trainer.turnTo(job, memory);
    this.#loaded.delete(job.base);
    this.#loaded.set(job.base, trainer);
    this.#makeRoom(job.base, (others) => this.#fits(memory, others));
  }

  /** Starts a process for a job on another base. */
  async #load(job: JobToTrain, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const { home } = this.#options;
    const { compute, reason } = await chooseDevices(
      { home, modelDir: job.modelDir, compute: this.#asked, now: clock.now(), signal },
      log,
    );
    const memory = await memoryWanted(job, compute);
    const { kept, ended } = this.#makeRoom(job.base, (others) => {
      // The memory of a GPU is not known, so processes for several bases are kept only if all of them use the
      // processor.
      const isKnown = [compute, ...others.map(({ settings }) => settings.compute)].every(isProcessorOnly);
      return (
        isKnown &&
        this.#fits(memory, others) &&
        fitsMemory(memory.total, availableMemory() - mappedBytesOf(others))
      );
    });
    const deps = {
      ...this.#deps,
      life: this.#life.signal,
      isPaused: () => this.#isPaused,
      freeMemory: () => this.#makeRoom(job.base, (others) => others.length === 0).count > 0,
      onUndeleted: this.#onUndeleted,
    };
    const loading = { job, compute, reason, memory, ended, mappedBytes: mappedBytesOf(kept) };
    this.#loaded.set(job.base, new BaseTrainer(this.#options, deps, loading));
  }

  /**
   * Ends processes of other bases, the least recently used first, until `fits` accepts the processes that are left.
   * @returns the processes that are left, and a promise that resolves when the ended processes have exited
   */
  #makeRoom(
    base: string,
    fits: (others: readonly BaseTrainer[]) => boolean,
  ): { kept: readonly BaseTrainer[]; count: number; ended: Promise<unknown> } {
    const kept = [...this.#loaded].flatMap(([digest, trainer]) => (digest === base ? [] : trainer));
    const ended: Promise<void>[] = [];
    while (kept.length > 0 && !fits(kept)) ended.push(this.#end(kept.shift()!));
    return { kept, count: ended.length, ended: Promise.all(ended) };
  }

  async #end(trainer: BaseTrainer): Promise<void> {
    this.#loaded.delete(trainer.job.base);
    this.#restarts += trainer.restarts;
    await trainer.stop();
  }

  /** Returns whether the processes of all bases together stay within the memory limit of the machine's owner. */
  #fits(wanted: MemoryEstimate, others: readonly BaseTrainer[]): boolean {
    const total = others.reduce((sum, { memory }) => sum + memory.total, wanted.total);
    return fitsMemory(total, this.#asked.memoryLimit);
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    // Stop the processes first, because the disk space of a deleted file becomes free only when no process maps the file.
    await this.#endOthers(bases);
    await removeBases({ home: this.#options.home, keep: bases, onUndeleted: this.#onUndeleted });
  }

  async releaseMemory(bases: ReadonlySet<string>): Promise<void> {
    const others = this.#endOthers(bases);
    const current = this.#current;
    const tooMany =
      current && this.#makeRoom(current.job.base, (kept) => this.#fits(current.memory, kept)).ended;
    await Promise.all([others, tooMany]);
  }

  /** Ends the processes of all bases outside `bases`. */
  async #endOthers(bases: ReadonlySet<string>): Promise<void> {
    const left = [...this.#loaded].filter(([base]) => !bases.has(base));
    await Promise.all(left.map(([, trainer]) => this.#end(trainer)));
  }

  async train(
    task: TrainTask,
    options: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
    const current = this.#prepared();
    const process = await raceSignal(current.living(), options.signal);
    return current.train(process, task, options);
  }

  /** Pauses the training before its next step, or resumes it. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    for (const trainer of this.#loaded.values()) trainer.pause(isPaused);
  }

  async lossGradient(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    { signal }: { signal: AbortSignal },
  ): Promise<LossGradient> {
    const process = await raceSignal(this.#living(), signal);
    return raceSignal(process.lossGradient({ adapter, rows, signal }), signal);
  }

  async losses(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    { signal }: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]> {
    const process = await raceSignal(this.#living(), signal);
    return raceSignal(process.evaluate({ adapter, rows, signal }), signal);
  }

  async stop(): Promise<void> {
    this.#life.abort(nodeError('TRAINER_STOPPED', 'the trainer has been stopped'));
    await Promise.all([...this.#loaded.values()].map((trainer) => trainer.stop()));
  }

  /** Returns the running process of the current base. @throws SwarmError TRAINER_NOT_PREPARED */
  async #living(): Promise<TrainerProcess> {
    return this.#prepared().living();
  }

  /** @throws SwarmError TRAINER_NOT_PREPARED */
  #prepared(): BaseTrainer {
    const current = this.#current;
    if (current !== null) return current;
    throw nodeError('TRAINER_NOT_PREPARED', 'no job has been prepared for this trainer');
  }
}

function isProcessorOnly({ devices }: ComputeOnDevices): boolean {
  return devices.every(({ engine }) => engine === 'onnx-cpu');
}

/**
 * Returns the bytes of weights that the processes map from files. The system counts these bytes as available memory,
 * because it could drop the pages.
 */
function mappedBytesOf(trainers: readonly BaseTrainer[]): number {
  const mapping = trainers.filter(({ settings }) => settings.compute.baseBits === 32);
  return mapping.reduce((sum, { memory }) => sum + memory.weights, 0);
}
