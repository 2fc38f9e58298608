import { join } from 'node:path';
import { raceSignal } from 'race-signal';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { Row } from '../lora/data/row.ts';
import { deviceNames } from '../lora/engines/names.ts';
import { type OnUndeleted, removeBases, removeOtherBits } from '../lora/models/base/base-cleanup.ts';
import { layOutBase } from '../lora/models/base/base-folder.ts';
import { openBase } from '../lora/models/base/base-model.ts';
import type { Compute, ComputeOnDevices, ResolvedCompute } from '../lora/train/compute.ts';
import { jobTraining } from '../lora/train/config.ts';
import { resolveDevices } from '../lora/train/devices/choose.ts';
import { type Fallback, fallbackFor, fallbackValues } from '../lora/train/devices/fallback.ts';
import { shareBatch, shareLine } from '../lora/train/devices/shared-batch.ts';
import { availableMemory } from '../lora/train/memory/available-memory.ts';
import { checkpointingLine, decideCheckpointing } from '../lora/train/memory/checkpointing.ts';
import { estimateTraining } from '../lora/train/memory/estimate.ts';
import { memoryOfTrainers } from '../lora/train/memory/trainers.ts';
import type { TrainerOptions } from '../lora/train/process/messages.ts';
import { TrainerProcess } from '../lora/train/process/supervisor.ts';
import type { RowLoss } from '../lora/train/step.ts';
import type { TrainProgress } from '../lora/train/trainer.ts';
import type { LossGradient } from '../lora/update/score.ts';
import type { NodeMetrics } from '../monitor/node-metrics.ts';
import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { FileBlobs } from '../storage/blobs.ts';
import { nodeError } from './errors.ts';
import { backoffMs } from './machine/times.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from './trainer.ts';

export interface TrainingProcessOptions {
  home: string;
  /** `devices: 'auto'` takes the fastest engine for each base. */
  compute: Compute;
}

export interface TrainingProcessDeps {
  blobs: FileBlobs;
  clock: Clock;
  log: Logger;
  random: () => number;
  /** Counts steps and restarts, for metrics. */
  meter: Pick<NodeMetrics, 'stepMade' | 'trainerRestarted'>;
}

/**
 * Runs the trainer process of one job at a time. If the process dies, its round is lost. The process is restarted so
 * that it is ready for the next round: immediately after a first failure, and after growing pauses if it fails again.
 */
export class TrainingProcess implements NodeTrainer, ScoreTrainer {
  readonly #options: TrainingProcessOptions;
  readonly #deps: TrainingProcessDeps;
  readonly #life = new AbortController();
  /** Digest of the settings that the process was started with. */
  #purpose: string | null = null;
  #process: Promise<TrainerProcess> | null = null;
  #settings: TrainerOptions | null = null;
  /** The requested compute, on the devices chosen for the job. */
  #compute: ComputeOnDevices | null = null;
  /** Micro-batch of the job. The process uses a smaller one if a fallback has reduced it. */
  #microBatch = 1;
  #note: string | null = null;
  /** Digest of the base that the process has loaded. */
  #base: string | null = null;
  /** Failures since the last round that was trained. */
  #deaths = 0;
  #restarts = 0;
  #queue = 0;
  #pid: number | null = null;

  constructor(options: TrainingProcessOptions, deps: TrainingProcessDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Logs a file that a clean-up left, because the count of the disk space that a job needs does not include it. */
  readonly #onUndeleted: OnUndeleted = (undeleted) => this.#deps.log.warn(undeleted, 'base-not-removed');

  /** Devices of the process. Before the first job: the named devices, or an empty text for `auto`. */
  get engine(): string {
    const { devices } = (this.#settings ?? this.#options).compute;
    return devices === 'auto' ? '' : deviceNames(devices, ', ');
  }

  get note(): string | null {
    return this.#note;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Number of rounds that the process has received and not ended: one in training, and aborted ones that are still
   * ending.
   */
  get queue(): number {
    return this.#queue;
  }

  /** Process id of the newest trainer process; null before the first. */
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
      lora: manifest.lora,
      training: jobTraining(manifest),
    };
    const purpose = sha256(encodeCbor(settings));
    if (purpose !== this.#purpose) {
      const compute = await this.#choose(modelDir, signal);
      const before = this.#process;
      this.#purpose = purpose;
      this.#base = manifest.base.digest;
      const { training } = settings;
      const { microBatch, reason } = shareBatch(training, compute.devices.length);
      if (reason !== null) this.#report('batch-shared', shareLine(reason));
      this.#compute = compute;
      this.#settings = {
        ...settings,
        training: { ...training, microBatch },
        // `auto` is decided below, once the memory is free.
        compute: { ...compute, checkpointing: compute.checkpointing === true },
      };
      this.#microBatch = training.microBatch;
      this.#deaths = 0;
      this.#process = (async () => {
        await before?.then((process) => process.stop()).catch(() => {});
        // policy.ts counts one copy of the base against the disk space that the machine's owner lends, so copies with
        // other base bits are deleted.
        const onUndeleted = this.#onUndeleted;
        await removeOtherBits(settings.cacheDir, { bits: compute.baseBits, onUndeleted });
        // The memory is free only after the previous process has ended.
        await this.#decideCheckpointing(modelDir);
        return this.#start();
      })();
    }
    return (await raceSignal(this.#living(), signal)).layout;
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    if (this.#base !== null && !bases.has(this.#base)) {
      const process = this.#process;
      this.#process = null;
      this.#purpose = null;
      this.#base = null;
      // Mapped files occupy the disk until their process has ended.
      await process?.then((running) => running.stop()).catch(() => {});
    }
    await removeBases({ home: this.#options.home, keep: bases, onUndeleted: this.#onUndeleted });
  }

  async train(
    { adapter, rows, steps, optimizer, position }: TrainTask,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
    const process = await raceSignal(this.#living(), signal);
    const report = (progress: TrainProgress): void => {
      this.#deps.meter.stepMade();
      onProgress(progress);
    };
    const task = { adapter, rows, steps, optimizer, position, onProgress: report, signal };
    try {
      // The process ends an aborted round after the current micro-batch. The next round waits in the process, not here.
      this.#queue++;
      const training = process.train(task).finally(() => this.#queue--);
      const { adapter: trained, ...result } = await raceSignal(training, signal);
      const after = await raceSignal(process.snapshot(signal), signal);
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
    const process = await this.#process?.catch(() => null);
    await process?.stop();
  }

  /** Returns the running process. Replaces one that died between two rounds. @throws SwarmError TRAINER_NOT_PREPARED */
  async #living(): Promise<TrainerProcess> {
    if (!this.#process) {
      throw nodeError('TRAINER_NOT_PREPARED', 'no job has been prepared for this trainer');
    }
    const current = this.#process;
    const process = await current.catch((error: unknown) => {
      // A failed start is not kept, so the next call starts the process again.
      if (this.#process === current) this.#restart(error);
      throw error;
    });
    if (process.alive) return process;
    if (this.#process === current) this.#restart(null);
    return this.#living();
  }

  #restart(error: unknown): void {
    const { clock, log, random, meter } = this.#deps;
    this.#deaths++;
    this.#restarts++;
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
    log.warn({ ...values, ...changed, deaths: this.#deaths, pauseMs }, 'trainer-restarted');
    // The error is null when the process died between two rounds.
    meter.trainerRestarted(isSwarmError(error) ? error.code : 'TRAINER_DIED');
    this.#process = sleep(clock, pauseMs, this.#life.signal).then(() => this.#start());
    // The next call that needs the process gets the error, so the rejection is not unhandled.
    this.#process.catch(() => {});
  }

  /** Returns the fallback that a restart after this error uses, or null for the same settings. */
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
    // Read the settings after the await, because another job may have been prepared meanwhile.
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
    if (reason !== null) this.#report('checkpointing-chosen', checkpointingLine(reason));
  }

  /** Reports a setting that was chosen automatically. */
  #report(event: string, line: string): void {
    this.#deps.log.info({ reason: line }, event);
    this.#note = this.#note === null ? line : `${this.#note}; ${line}`;
  }

  async #start(): Promise<TrainerProcess> {
    const { log } = this.#deps;
    const onLog = (line: string): void => log.debug({ line }, 'trainer-logged');
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
