import type { Clock } from '../../common/time/clock.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { nodeError } from '../errors.ts';
import { RoundSlices, SlicePace } from './round-slices.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from './trainer.ts';
import type { TurnUser, TurnWork } from './trainer-turns.ts';

/**
 * Pause after the first failed preparation of a job, in milliseconds, while other jobs share the trainer. The pause
 * doubles with each further failure. The pause is needed because a failed preparation may unload the base of another
 * job, and loading this base again takes time.
 */
export const FAILED_PAUSE_MS = 60_000;
/** Maximum of the pause after a failed preparation, in milliseconds. */
const FAILED_PAUSE_LONGEST_MS = 30 * 60_000;

/** Options of {@link TrainerShare.train}. */
export interface RoundOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TrainProgress) => void;
  /** Time in which the round should be trained, in milliseconds. @default no deadline */
  readonly dueInMs?: number;
}

export interface TurnOptions<T> {
  readonly turn?: TurnWork | undefined;
  /** Called when the turn of the job begins. */
  readonly onTurn: () => void;
  /**
   * Uses the trainer.
   * @param layout layout of the job's adapter if the trainer was prepared in this turn; null otherwise
   * @param isUp returns whether another job needs the trainer now
   */
  readonly work: (layout: AdapterLayout | null, isUp: () => boolean) => Promise<T>;
}

/** Gives the jobs of a node access to the trainer of the node, one job at a time. */
export interface TrainerAccess {
  /** Whether several jobs share the trainer. */
  readonly isShared: boolean;
  /** Returns the name of the job that has the trainer; null while the trainer is free or the job of `user` has it. */
  busyWith(user: TurnUser): string | null;
  /** Returns whether the job of `user` has the trainer. */
  hasTurn(user: TurnUser): boolean;
  /** Waits for a turn, prepares the trainer for the job, and runs the work. */
  inTurn<T>(user: TurnUser, manifest: Manifest, signal: AbortSignal, options: TurnOptions<T>): Promise<T>;
  keepBases(bases: ReadonlySet<string>): Promise<void>;
  releaseMemory(bases: ReadonlySet<string>): Promise<void>;
}

interface TrainerShareDeps {
  readonly shared: TrainerAccess;
  readonly user: TurnUser;
  readonly trainer: NodeTrainer;
  /** Trainer that computes scores; null if the node does not offer to compute scores. */
  readonly scoreTrainer: ScoreTrainer | null;
  readonly clock: Clock;
}

/** The trainer of a node, as one of its jobs uses it. Each call waits for the turn of the job. */
export class TrainerShare implements NodeTrainer, ScoreTrainer {
  /** Called when the job begins or stops waiting for the trainer. */
  onWait: (() => void) | null = null;
  readonly #shared: TrainerAccess;
  readonly #user: TurnUser;
  readonly #trainer: NodeTrainer;
  readonly #scoreTrainer: ScoreTrainer | null;
  readonly #clock: Clock;
  readonly #pace = new SlicePace();
  #manifest: Manifest | null = null;
  #layout: AdapterLayout = [];
  /**
   * The error of the newest attempt to prepare the job, with the time of the next attempt and the pause before it.
   * Null if the newest attempt succeeded.
   */
  #failures: { readonly error: unknown; readonly until: number; readonly pauseMs: number } | null = null;
  /** Number of calls that wait for a turn. */
  #waiting = 0;

  constructor(deps: TrainerShareDeps) {
    this.#shared = deps.shared;
    this.#user = deps.user;
    this.#trainer = deps.trainer;
    this.#scoreTrainer = deps.scoreTrainer;
    this.#clock = deps.clock;
  }

  get engine(): string {
    return this.#trainer.engine;
  }

  get note(): string | null {
    return this.#trainer.note;
  }

  get restarts(): number {
    return this.#trainer.restarts;
  }

  /** Name of the job that uses this share of the trainer; null before the first call of `prepare`. */
  get jobName(): string | null {
    return this.#manifest?.name ?? null;
  }

  /** Name of the job that has the trainer while this job waits for it; null if this job does not wait. */
  get busyWith(): string | null {
    return this.#waiting > 0 ? this.#shared.busyWith(this.#user) : null;
  }

  /** Whether this job has the trainer. */
  get hasTurn(): boolean {
    return this.#shared.hasTurn(this.#user);
  }

  get weight(): number {
    return this.#user.weight;
  }

  get usedSeconds(): number {
    return this.#user.usedMs / 1000;
  }

  /**
   * Prepares the trainer for a job. Returns immediately if the trainer was prepared for this job before, because each turn
   * prepares it again.
   */
  async prepare(manifest: Manifest, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    if (this.#manifest !== manifest) {
      this.#manifest = manifest;
      this.#layout = [];
      this.#failures = null;
    }
    if (this.#layout.length > 0) return this.#layout;
    const now = this.#clock.monotonic();
    const { error, until = 0, pauseMs = FAILED_PAUSE_MS } = this.#failures ?? {};
    if (this.#shared.isShared && now < until) throw error;
    try {
      return await this.#inTurn(signal, async (layout) => {
        if (layout !== null) this.#layout = layout;
        return this.#layout;
      });
    } catch (failure) {
      if (!signal.aborted) {
        const next = Math.min(2 * pauseMs, FAILED_PAUSE_LONGEST_MS);
        this.#failures = { error: failure, until: this.#clock.monotonic() + pauseMs, pauseMs: next };
      }
      throw failure;
    }
  }

  keepBases(bases: ReadonlySet<string>): Promise<void> {
    return this.#shared.keepBases(bases);
  }

  releaseMemory(bases: ReadonlySet<string>): Promise<void> {
    return this.#shared.releaseMemory(bases);
  }

  /** Trains a round in slices. Between two slices, another job can train if it would otherwise miss its deadline. */
  async train(task: TrainTask, { signal, onProgress, dueInMs }: RoundOptions): Promise<TrainedRound> {
    if (!this.#shared.isShared) {
      return this.#inTurn(signal, () => this.#trainer.train(task, { signal, onProgress }));
    }
    const slices = new RoundSlices(task, this.#prepared().training.batchSize);
    const dueAt = dueInMs === undefined ? null : this.#clock.monotonic() + dueInMs;
    while (slices.left > 0) {
      const turn = { dueAt, workMs: this.#pace.msFor(slices.left), isRest: slices.left < task.steps };
      await this.#inTurn(
        signal,
        (_layout, isUp) => this.#trainSlices(slices, { signal, onProgress, isUp }),
        turn,
      );
    }
    return slices.round();
  }

  /** Trains slices of a round until no steps are left, or until another job needs the trainer. */
  async #trainSlices(
    slices: RoundSlices,
    { signal, onProgress, isUp }: RoundOptions & { isUp: () => boolean },
  ): Promise<void> {
    do {
      const slice = slices.next(this.#pace.steps());
      const since = this.#clock.monotonic();
      const trained = await this.#trainer.train(slice, {
        signal,
        onProgress: (progress) => onProgress(slices.progress(progress)),
      });
      this.#pace.measure(trained.result, this.#clock.monotonic() - since);
      slices.add(slice, trained);
    } while (slices.left > 0 && !isUp());
  }

  lossGradient(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: { signal: AbortSignal },
  ): Promise<LossGradient> {
    return this.#inTurn(options.signal, () => this.#scores().lossGradient(adapter, rows, options));
  }

  losses(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]> {
    return this.#inTurn(options.signal, () => this.#scores().losses(adapter, rows, options));
  }

  /**
   * Does nothing, because other jobs may still use the trainer. The daemon stops the trainer after all jobs have
   * stopped.
   */
  async stop(): Promise<void> {}

  #scores(): ScoreTrainer {
    if (this.#scoreTrainer !== null) return this.#scoreTrainer;
    throw nodeError('NOT_SCORING', 'this node does not offer to compute scores');
  }

  #prepared(): Manifest {
    if (this.#manifest !== null) return this.#manifest;
    throw nodeError('TRAINER_NOT_PREPARED', 'no job has been prepared for this trainer');
  }

  async #inTurn<T>(signal: AbortSignal, work: TurnOptions<T>['work'], turn?: TurnWork): Promise<T> {
    const manifest = this.#prepared();
    let isWaiting = true;
    this.#waiting++;
    const onTurn = (): void => {
      if (!isWaiting) return;
      isWaiting = false;
      this.#waiting--;
      if (isReported) this.onWait?.();
    };
    const running = this.#shared.inTurn(this.#user, manifest, signal, { turn, onTurn, work });
    const isReported = this.busyWith !== null;
    if (isReported) this.onWait?.();
    try {
      return await running;
    } finally {
      onTurn();
    }
  }
}
