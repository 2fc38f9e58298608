import { raceSignal } from 'race-signal';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import { type OnUndeleted, removeOtherBits } from '../../lora/models/base/base-cleanup.ts';
import type { Compute, ComputeOnDevices } from '../../lora/train/compute.ts';
import { fallbackValues } from '../../lora/train/devices/fallback.ts';
import type { MemoryEstimate } from '../../lora/train/memory/estimate.ts';
import type { ProcessUse } from '../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { NodeMetrics } from '../../monitor/metrics/node-metrics.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { nodeError } from '../errors.ts';
import { backoffMs } from '../machine/times.ts';
import { type ChosenDevices, type JobToTrain, memoryWanted } from './job-to-train.ts';
import type { TrainedRound, TrainTask } from './trainer.ts';
import { TrainerSettings } from './trainer-settings.ts';

export interface TrainingProcessOptions {
  home: string;
  /**
   * `devices: 'auto'` chooses the fastest engine for each base. `memoryLimit` is for the processes of all bases together, as
   * the owner had set it at the start of the node.
   */
  compute: Compute;
}

export interface TrainingProcessDeps {
  blobs: FileBlobs;
  clock: Clock;
  log: Logger;
  random: () => number;
  /** Counts steps and restarts, for metrics. */
  meter: Pick<NodeMetrics, 'stepMade' | 'trainerRestarted'>;
  /** Returns `memoryLimit` as it is now, because the owner can change it while the node runs. @default the limit at the start */
  memoryLimit?: () => number;
  /** Returns whether the process must run at the lowest priority, to leave the machine to its user. @default false */
  isPolite?: () => boolean;
}

export interface BaseTrainerDeps extends TrainingProcessDeps {
  /** Aborts when the node stops. */
  readonly life: AbortSignal;
  /** Whether the training is paused now. */
  readonly isPaused: () => boolean;
  /** Ends the processes of other bases after this process has run out of memory. Returns whether it ended any process. */
  readonly freeMemory: () => boolean;
  readonly onUndeleted: OnUndeleted;
}

/** Facts that decide how a job is loaded into a trainer process. */
interface Loading extends ChosenDevices {
  readonly job: JobToTrain;
  readonly memory: MemoryEstimate;
  /** Resolves when the trainer processes that were ended to free memory for this job have exited. */
  readonly ended: Promise<unknown>;
  /**
   * Bytes of weights that the trainer processes of other bases map from files. These bytes are subtracted
   * from the available memory, because the system counts them as available.
   */
  readonly mappedBytes: number;
}

/** Advice after the death of a trainer process. */
const DIED =
  'the node goes on with the next round; if this happens often, end other programs, or start the node with --base-bits 4, which needs less memory';

/**
 * The trainer process of one base. When the next job has the same base, the process keeps the base and switches to that
 * job. If the process dies, the round that it trained is lost. The process is restarted so that it is ready for the next
 * round: immediately after a first failure, and after growing pauses if it fails again.
 */
export class BaseTrainer {
  readonly #deps: BaseTrainerDeps;
  readonly #settings: TrainerSettings;
  #job: JobToTrain;
  #process: Promise<TrainerProcess>;
  #memory: MemoryEstimate;
  /** Number of failures of the process since it last trained a round. */
  #deaths = 0;
  #restarts = 0;
  #queue = 0;
  #isStopped = false;
  #pid: number | null = null;
  #use: (ProcessUse & { readonly at: number }) | null = null;

  /** Starts a process. The next call that needs the process gets the error of a failed start. */
  constructor(options: TrainingProcessOptions, deps: BaseTrainerDeps, loading: Loading) {
    const { job, compute, reason, memory, ended, mappedBytes } = loading;
    this.#deps = deps;
    const settings = new TrainerSettings(options, deps);
    this.#settings = settings;
    this.#job = job;
    this.#memory = memory;
    settings.begin(job, compute, reason);
    this.#process = (async () => {
      await ended;
      // policy.ts counts one copy of the base against the disk space that the machine's owner lends, so copies with
      // other base bits are deleted.
      await removeOtherBits(job.cacheDir, { bits: compute.baseBits, onUndeleted: deps.onUndeleted });
      await settings.fitFirst(job, compute, { mappedBytes });
      return this.#start();
    })();
    // Marks the rejection as handled. The first call that needs the process awaits the promise and gets the error.
    this.#process.catch(() => {});
  }

  get job(): JobToTrain {
    return this.#job;
  }

  get settings(): Pick<TrainerSettings, 'note'> & { readonly compute: ComputeOnDevices } {
    return { note: this.#settings.note, compute: this.#settings.current!.compute };
  }

  /** Memory that the process takes for its current job. */
  get memory(): MemoryEstimate {
    return this.#memory;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** Number of rounds that the process has received and has not finished. */
  get queue(): number {
    return this.#queue;
  }

  /** Process id of the newest process; null before the first process has started. */
  get pid(): number | null {
    return this.#pid;
  }

  /**
   * Processor time and memory of the process, as it reported them at its newest step. `at`: time of this report on the
   * monotonic clock.
   */
  get use(): (ProcessUse & { readonly at: number }) | null {
    return this.#use;
  }

  /** Memory that the process would take for another job on its base. @throws SwarmError LORA_* */
  memoryFor(job: JobToTrain): Promise<MemoryEstimate> {
    return memoryWanted(job, this.#settings.wanted);
  }

  /** Switches to another job on the same base. @throws SwarmError LORA_* if the job does not fit the base */
  async turnTo(job: JobToTrain, memory: MemoryEstimate): Promise<void> {
    const fitted = await this.#settings.fitNext(job);
    const before = this.#process;
    this.#job = job;
    this.#memory = memory;
    this.#process = (async () => {
      // If the process failed to start, ignore the error, because the code below starts a new process.
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

  /** Trains a round. @throws SwarmError TRAINER_DIED, TRAINER_STOPPED, another error of training, or the signal's reason */
  async train(
    process: TrainerProcess,
    { adapter, rows, steps, optimizer, position }: TrainTask,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
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
      throw isSwarmError(error, 'TRAINER_DIED') ? error.with({ next: DIED }) : error;
    }
  }

  /** Pauses the training before its next step, or resumes it. */
  pause(isPaused: boolean): void {
    // Ignore a failed start here, because the call that needs the process gets its error.
    this.#process.then((process) => process.pause(isPaused)).catch(() => {});
  }

  /** Ends the process. It does not start again. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    // A process that failed to start needs no stop.
    const process = await this.#process.catch(() => null);
    await process?.stop();
  }

  /** Returns the running process. If the process died between two rounds, starts a new process. */
  async living(): Promise<TrainerProcess> {
    const current = this.#process;
    const process = await current.catch((error: unknown) => {
      // A failed start is not kept, so the next call starts the process again.
      if (this.#process === current) this.#restart(error);
      throw error;
    });
    if (process.alive) return process;
    if (this.#process === current) this.#restart(null);
    return this.living();
  }

  /** @throws SwarmError TRAINER_STOPPED */
  #restart(error: unknown): void {
    this.#requireNotStopped();
    const { clock, log, random, meter, life, freeMemory } = this.#deps;
    this.#deaths++;
    this.#restarts++;
    const pauseMs = this.#deaths === 1 ? 0 : backoffMs(this.#deaths - 1, random());
    const possible = this.#settings.fallback(error);
    // If `freeMemory` ends processes of other bases, this process has more memory, so it restarts with the same settings.
    const fallback = possible !== null && freeMemory() ? null : possible;
    if (fallback !== null) this.#settings.takeFallback(fallback);
    const values = isSwarmError(error) ? { code: error.code, reason: error.message, ...error.values } : {};
    const changed = fallback === null ? {} : fallbackValues(fallback);
    log.warn({ ...values, ...changed, deaths: this.#deaths, pauseMs }, 'trainer-restarted');
    // The error is null when the process died between two rounds.
    meter.trainerRestarted(isSwarmError(error) ? error.code : 'TRAINER_DIED');
    this.#process = sleep(clock, pauseMs, life).then(() => this.#start());
    // Marks the rejection of a failed start as handled. The next call that needs the process awaits the promise and
    // gets the error.
    this.#process.catch(() => {});
  }

  /** @throws SwarmError TRAINER_STOPPED, TRAINER_DIED */
  async #start(): Promise<TrainerProcess> {
    this.#requireNotStopped();
    const { log, life } = this.#deps;
    const onLog = (line: string): void => log.debug({ line }, 'trainer-logged');
    const onNotice = (text: string): void => {
      log.warn({ reason: text }, 'device-lost');
      this.#settings.note = text;
    };
    const isPolite = this.#deps.isPolite?.() ?? false;
    const deps = { onLog, onNotice, signal: life, isPolite };
    const process = await TrainerProcess.start(this.#settings.current!, deps);
    process.pause(this.#deps.isPaused());
    this.#pid = process.pid ?? null;
    this.#use = null;
    return process;
  }

  /** @throws SwarmError TRAINER_STOPPED, because a new process could read files of the base while they are deleted */
  #requireNotStopped(): void {
    if (this.#isStopped) throw nodeError('TRAINER_STOPPED', 'the trainer has been stopped');
  }
}
