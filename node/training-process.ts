import { join } from 'node:path';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import { deviceNames } from '../lora/engines/names.ts';
import { removeBases } from '../lora/models/base-cleanup.ts';
import { layOutBase } from '../lora/models/base-folder.ts';
import { openBase } from '../lora/models/base-model.ts';
import { availableMemory } from '../lora/train/available-memory.ts';
import { checkpointingLine, decideCheckpointing } from '../lora/train/checkpointing.ts';
import { resolveDevices } from '../lora/train/choose.ts';
import type { Compute, ComputeOnDevices, ResolvedCompute } from '../lora/train/compute.ts';
import { trainingConfigSchema } from '../lora/train/config.ts';
import { estimateTraining } from '../lora/train/estimate.ts';
import { type Fallback, fallbackFor, fallbackValues } from '../lora/train/fallback.ts';
import type { TrainerOptions } from '../lora/train/messages.ts';
import { shareBatch, shareLine } from '../lora/train/shared-batch.ts';
import { TrainerProcess } from '../lora/train/supervisor.ts';
import type { TrainProgress } from '../lora/train/trainer.ts';
import { memoryOfTrainers } from '../lora/train/trainers.ts';
import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { FileBlobs } from '../storage/blobs.ts';
import { nodeError } from './errors.ts';
import { backoffMs } from './machine/times.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from './trainer.ts';

export interface TrainingProcessOptions {
  home: string;
  /** With `devices: 'auto'`: the fastest engine for each base. */
  compute: Compute;
}

export interface TrainingProcessDeps {
  blobs: FileBlobs;
  clock: Clock;
  log: Logger;
  random: () => number;
  /** The process has died and is started again. */
  onRestart: () => void;
}

/** A job's settings as the trainer takes them: a line or cosine ends with the job. */
function trainerSettings({
  lora,
  training,
  rounds,
  seed,
}: Manifest): Pick<TrainerOptions, 'lora' | 'training'> {
  const totalSteps = rounds.count * rounds.localSteps;
  return { lora, training: trainingConfigSchema.parse({ ...training, totalSteps, seed }) };
}

/**
 * The trainer process of one job at a time. When it dies the round that it worked on is lost; it is started again at
 * once, then after ever longer pauses, so that it is ready for the next round.
 */
export class TrainingProcess implements NodeTrainer {
  readonly #options: TrainingProcessOptions;
  readonly #deps: TrainingProcessDeps;
  readonly #life = new AbortController();
  /** What the process works for: digest of everything it is started with. */
  #purpose: string | null = null;
  #process: Promise<TrainerProcess> | null = null;
  #settings: TrainerOptions | null = null;
  /** What was asked for, on the devices that were chosen for the job. */
  #compute: ComputeOnDevices | null = null;
  /** Rows at a time as the job has them, whatever a device can take. */
  #microBatch = 1;
  #note: string | null = null;
  /** Digest of the base that the process holds. */
  #base: string | null = null;
  #deaths = 0;
  #pid: number | null = null;

  constructor(options: TrainingProcessOptions, deps: TrainingProcessDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** What the process runs on; before the first job what was named, and nothing where that is still to be chosen. */
  get engine(): string {
    const { devices } = (this.#settings ?? this.#options).compute;
    return devices === 'auto' ? '' : deviceNames(devices, ', ');
  }

  get note(): string | null {
    return this.#note;
  }

  /** Of the process that was started last; null before the first. */
  get pid(): number | null {
    return this.#pid;
  }

  async prepare(manifest: Manifest, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    const { home } = this.#options;
    const pathOf = (digest: string): string => this.#deps.blobs.path(digest);
    const modelDir = await layOutBase({ home, base: manifest.base, pathOf });
    const settings = {
      modelDir,
      cacheDir: join(home, 'cache'),
      ...trainerSettings(manifest),
    };
    const purpose = sha256(encodeCbor(settings));
    if (purpose !== this.#purpose) {
      const compute = await this.#choose(modelDir, signal);
      const before = this.#process;
      this.#purpose = purpose;
      this.#base = manifest.base.digest;
      const { training } = settings;
      const { microBatch, reason } = shareBatch(training, compute.devices.length);
      if (reason !== null) this.#tell('batch-shared', shareLine(reason));
      this.#compute = compute;
      this.#settings = {
        ...settings,
        training: { ...training, microBatch },
        // Decided below, once the memory is free.
        compute: { ...compute, checkpointing: compute.checkpointing === true },
      };
      this.#microBatch = training.microBatch;
      this.#deaths = 0;
      this.#process = (async () => {
        await before?.then((process) => process.stop()).catch(() => {});
        // Only now is the memory free that this one may take.
        await this.#decideCheckpointing(modelDir);
        return this.#start();
      })();
    }
    return (await untilAborted(this.#living(), signal)).layout;
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    if (this.#base !== null && !bases.has(this.#base)) {
      const process = this.#process;
      this.#process = null;
      this.#purpose = null;
      this.#base = null;
      // Files that are still mapped take their space until then.
      await process?.then((running) => running.stop()).catch(() => {});
    }
    await removeBases({ home: this.#options.home, keep: bases });
  }

  async train(
    { adapter, rows, steps, optimizer, position }: TrainTask,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
    const process = await untilAborted(this.#living(), signal);
    const task = { adapter, rows, steps, optimizer, position, onProgress, signal };
    try {
      // The process ends an aborted training between two steps; what comes next waits there, not here.
      const { adapter: trained, ...result } = await untilAborted(process.train(task), signal);
      const after = await untilAborted(process.snapshot(signal), signal);
      this.#deaths = 0;
      return { adapter: trained, optimizer: after, result };
    } catch (error) {
      if (!process.alive) this.#restart(error);
      else if (this.#fallback(error) !== null) {
        await process.stop();
        this.#restart(error);
      }
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#life.abort(nodeError('TRAINER_STOPPED', 'the trainer has been stopped'));
    const process = await this.#process?.catch(() => null);
    await process?.stop();
  }

  /** The running process; one that died between two rounds is replaced. @throws SwarmError TRAINER_NOT_PREPARED */
  async #living(): Promise<TrainerProcess> {
    if (!this.#process) {
      throw nodeError('TRAINER_NOT_PREPARED', 'no job has been prepared for this trainer');
    }
    const current = this.#process;
    const process = await current.catch((error: unknown) => {
      // A start that failed is not kept: the next one who asks starts again.
      if (this.#process === current) this.#restart(error);
      throw error;
    });
    if (process.alive) return process;
    if (this.#process === current) this.#restart(null);
    return this.#living();
  }

  #restart(error: unknown): void {
    const { clock, log, random, onRestart } = this.#deps;
    this.#deaths++;
    const pauseMs = this.#deaths === 1 ? 0 : backoffMs(this.#deaths - 1, random());
    const fallback = this.#fallback(error);
    if (fallback !== null) {
      const { compute, microBatch, reason } = fallback;
      const settings = this.#settings!;
      this.#settings = { ...settings, training: { ...settings.training, microBatch }, compute };
      this.#note = reason;
    }
    const values = isSwarmError(error) ? { code: error.code, reason: error.message, ...error.values } : {};
    const changed = fallback === null ? {} : fallbackValues(fallback);
    log.warn({ ...values, ...changed, deaths: this.#deaths, pauseMs }, 'trainer-restarts');
    onRestart();
    this.#process = sleep(clock, pauseMs, this.#life.signal).then(() => this.#start());
    // Whoever trains next gets the error.
    this.#process.catch(() => {});
  }

  /** Settings that a restart after this error changes; null where it changes none. */
  #fallback(error: unknown): Fallback | null {
    if (this.#settings === null) return null;
    const { compute, training } = this.#settings;
    const asked = { compute: this.#options.compute, microBatch: this.#microBatch };
    return fallbackFor(asked, { compute, microBatch: training.microBatch }, error);
  }

  async #choose(modelDir: string, signal: AbortSignal): Promise<ComputeOnDevices> {
    const { clock, log } = this.#deps;
    const { home, compute } = this.#options;
    const model = await openBase(modelDir);
    const options = { model, recordDir: join(home, 'engines'), now: clock.now(), signal };
    const resolved = await resolveDevices(compute, options);
    const reason = resolved.reason ?? 'set by the user';
    log.info({ engine: resolved.compute.devices[0].engine, reason }, 'engine-chosen');
    this.#note = reason;
    return resolved.compute;
  }

  async #decideCheckpointing(modelDir: string): Promise<void> {
    const model = await openBase(modelDir);
    // Read only now: meanwhile another job may have been prepared.
    const settings = this.#settings!;
    const { lora, training } = settings;
    const { compute, reason } = decideCheckpointing(this.#compute!, {
      available: availableMemory(),
      needs: (resolved: ResolvedCompute) => {
        const one = estimateTraining(model, { lora, training, compute: resolved }).memory;
        return memoryOfTrainers(one, resolved).total;
      },
    });
    this.#settings = { ...settings, compute };
    if (reason !== null) this.#tell('checkpointing-chosen', checkpointingLine(reason));
  }

  /** What was chosen and not asked for. */
  #tell(event: string, line: string): void {
    this.#deps.log.info({ reason: line }, event);
    this.#note = this.#note === null ? line : `${this.#note}; ${line}`;
  }

  async #start(): Promise<TrainerProcess> {
    const { log } = this.#deps;
    const onLog = (line: string): void => log.debug({ line }, 'trainer-says');
    const onNotice = (text: string): void => {
      log.warn({ reason: text }, 'device-lost');
      this.#note = text;
    };
    const deps = { onLog, onNotice, signal: this.#life.signal };
    const process = await TrainerProcess.start(this.#settings!, deps);
    this.#pid = process.pid ?? null;
    return process;
  }
}

/** Waits no longer than until the signal aborts; what is waited for goes on by itself. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
