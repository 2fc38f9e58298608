import { raceSignal } from 'race-signal';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import { deviceNames } from '../../lora/engines/names.ts';
import { type OnUndeleted, removeBases, removeOtherBits } from '../../lora/models/base/base-cleanup.ts';
import type { Compute } from '../../lora/train/compute.ts';
import { fallbackValues } from '../../lora/train/devices/fallback.ts';
import type { ProcessUse } from '../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { NodeMetrics } from '../../monitor/node-metrics.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { nodeError } from '../errors.ts';
import { backoffMs } from '../machine/times.ts';
import { chooseDevices, type JobToTrain, jobToTrain } from './job-to-train.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from './trainer.ts';
import { TrainerSettings } from './trainer-settings.ts';

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
  /** Whether the process gets the lowest priority, for the user of the machine. @default false */
  isPolite?: () => boolean;
}

/**
 * Runs the trainer process of one job at a time. When the next job has the same base, the process keeps the
 * base and switches to that job. If the process dies, the round that it trained is lost. The process is
 * restarted so that it is ready for the next round: immediately after a first failure, and after growing
 * pauses if it fails again.
 */
export class TrainingProcess implements NodeTrainer, ScoreTrainer {
  readonly #options: TrainingProcessOptions;
  readonly #deps: TrainingProcessDeps;
  readonly #life = new AbortController();
  /** The job that the process works on, and whose base it has loaded. */
  #job: JobToTrain | null = null;
  #process: Promise<TrainerProcess> | null = null;
  readonly #settings: TrainerSettings;
  /** Number of failures of the process since it last trained a round. */
  #deaths = 0;
  #restarts = 0;
  #queue = 0;
  #isPaused = false;
  #pid: number | null = null;
  #use: (ProcessUse & { readonly at: number }) | null = null;

  constructor(options: TrainingProcessOptions, deps: TrainingProcessDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#settings = new TrainerSettings(options, deps);
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
    const { devices } = (this.#settings.current ?? this.#options).compute;
    return devices === 'auto' ? '' : deviceNames(devices, ', ');
  }

  get note(): string | null {
    return this.#settings.note;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Number of rounds that the process has received and has not finished. These are the round in training, and
   * aborted rounds whose last micro-batch is still running.
   */
  get queue(): number {
    return this.#queue;
  }

  /** Process id of the newest trainer process; null before the first. */
  get pid(): number | null {
    return this.#pid;
  }

  /**
   * Processor time and memory of the trainer process at its newest step, and the time of the report on the monotonic
   * clock; null before the first step of a process. With several devices, this is the process of the first one.
   */
  get use(): (ProcessUse & { readonly at: number }) | null {
    return this.#use;
  }

  async prepare(manifest: Manifest, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    const job = await jobToTrain(manifest, this.#options.home, this.#deps.blobs);
    if (job.purpose !== this.#job?.purpose) {
      if (job.base === this.#job?.base) await this.#turnTo(job);
      else await this.#load(job, signal);
    }
    return (await raceSignal(this.#living(), signal)).layout;
  }

  /** Switches to another job on the base that the process has loaded. */
  async #turnTo(job: JobToTrain): Promise<void> {
    const fitted = await this.#settings.fitNext(job);
    const before = this.#process!;
    this.#job = job;
    this.#process = (async () => {
      // If the process failed to start, its error was reported then. The code below starts a new process
      // instead.
      const process = await before.catch(() => null);
      // The settings are read after the await, because a failed device may have changed them meanwhile.
      this.#settings.take(job, fitted);
      if (!process?.alive) return this.#start();
      const { lora } = job;
      const { training, checkpointing } = fitted;
      await process.turnTo({ lora, training, checkpointing });
      return process;
    })();
    // Marks the rejection as handled. The next call that needs the process awaits the promise and gets the error.
    this.#process.catch(() => {});
  }

  /** Starts a process for a job on another base. */
  async #load(job: JobToTrain, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const { home, compute: asked } = this.#options;
    const { compute, reason } = await chooseDevices(
      { home, modelDir: job.modelDir, compute: asked, now: clock.now(), signal },
      log,
    );
    const before = this.#process;
    this.#job = job;
    this.#settings.begin(job, compute, reason);
    this.#deaths = 0;
    this.#process = (async () => {
      await before?.then((process) => process.stop()).catch(() => {});
      // policy.ts counts one copy of the base against the disk space that the machine's owner lends, so copies with
      // other base bits are deleted.
      const onUndeleted = this.#onUndeleted;
      await removeOtherBits(job.cacheDir, { bits: compute.baseBits, onUndeleted });
      await this.#settings.fitFirst(job, compute);
      return this.#start();
    })();
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    if (this.#job !== null && !bases.has(this.#job.base)) {
      const process = this.#process;
      this.#process = null;
      this.#job = null;
      // Stop the process first. The disk space of deleted files becomes free only when no process maps them any more.
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
      if (process.use !== null) this.#use = { ...process.use, at: this.#deps.clock.monotonic() };
      onProgress(progress);
    };
    const task = { adapter, rows, steps, optimizer, position, onProgress: report, signal };
    try {
      // An aborted round ends only after its current micro-batch. The next round is sent to the process immediately,
      // and waits there.
      this.#queue++;
      const training = process.train(task).finally(() => this.#queue--);
      const { adapter: trained, ...result } = await raceSignal(training, signal);
      const after = await raceSignal(process.snapshot(signal), signal);
      this.#deaths = 0;
      return { adapter: trained, optimizer: after, result };
    } catch (error) {
      if (!process.alive) this.#restart(error);
      else if (this.#settings.fallback(error) !== null) {
        await process.stop();
        this.#restart(error);
      }
      throw error;
    }
  }

  /** Pauses the training before its next step, or lets it go on. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    // A process that fails to start reports its error to the call that needs it.
    this.#process?.then((process) => process.pause(isPaused)).catch(() => {});
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

  /**
   * Returns the running process. If the process died between two rounds, starts a new process.
   * @throws SwarmError TRAINER_NOT_PREPARED
   */
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
    const fallback = this.#settings.fallback(error);
    if (fallback !== null) this.#settings.takeFallback(fallback);
    const values = isSwarmError(error) ? { code: error.code, reason: error.message, ...error.values } : {};
    const changed = fallback === null ? {} : fallbackValues(fallback);
    log.warn({ ...values, ...changed, deaths: this.#deaths, pauseMs }, 'trainer-restarted');
    // The error is null when the process died between two rounds.
    meter.trainerRestarted(isSwarmError(error) ? error.code : 'TRAINER_DIED');
    this.#process = sleep(clock, pauseMs, this.#life.signal).then(() => this.#start());
    // Marks the rejection of a failed start as handled. The next call that needs the process awaits the promise and
    // gets the error.
    this.#process.catch(() => {});
  }

  async #start(): Promise<TrainerProcess> {
    const { log } = this.#deps;
    const onLog = (line: string): void => log.debug({ line }, 'trainer-logged');
    const onNotice = (text: string): void => {
      log.warn({ reason: text }, 'device-lost');
      this.#settings.note = text;
    };
    const isPolite = this.#deps.isPolite?.() ?? false;
    const deps = { onLog, onNotice, signal: this.#life.signal, isPolite };
    const process = await TrainerProcess.start(this.#settings.current!, deps);
    process.pause(this.#isPaused);
    this.#pid = process.pid ?? null;
    this.#use = null;
    return process;
  }
}
