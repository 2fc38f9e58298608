import type { Clock } from '../../common/clock.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import { nodeError } from '../errors.ts';
import type { Pauses } from '../limits/pauses.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from '../trainer/trainer.ts';
import { RoundSlices, SlicePace } from './round-slices.ts';
import { MIN_TURN_MS, TrainerTurns, type Turn, type TurnUser, type TurnWork } from './trainer-turns.ts';

interface SharedTrainerDeps {
  readonly trainer: NodeTrainer;
  /** Trainer that computes scores; null if the node does not offer to compute scores. */
  readonly scoreTrainer: ScoreTrainer | null;
  readonly clock: Clock;
  /** The pause of the node, during which no work begins. @default the node never pauses */
  readonly pauses?: Pauses | undefined;
}

/**
 * Minimum duration of a turn, as a multiple of the time for preparing the trainer in this turn. Loading a base can take
 * minutes, and must not take most of the time.
 */
const PREPARATIONS_PER_TURN = 4;

/** Options of {@link TrainerShare.train}. */
export interface RoundOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TrainProgress) => void;
  /** Time in which the round should be trained, in milliseconds. @default no deadline */
  readonly dueInMs?: number;
}

interface TurnOptions<T> {
  readonly turn?: TurnWork | undefined;
  /** Called when the turn begins. */
  readonly onTurn: () => void;
  /**
   * Uses the trainer.
   * @param layout layout of the job's adapter, if the trainer had to be prepared
   * @param isUp returns whether another job needs the trainer now
   */
  readonly work: (layout: AdapterLayout | null, isUp: () => boolean) => Promise<T>;
}

/**
 * The trainer of a node, which the jobs of the node share. One job at a time has it, mostly for a whole round. Between
 * two rounds, the trainer switches to the job that gets the next turn. It switches within a round if the other job would
 * otherwise miss its deadline.
 */
export class SharedTrainer {
  readonly #deps: SharedTrainerDeps;
  readonly #turns: TrainerTurns;
  readonly #shares = new Map<TurnUser, TrainerShare>();
  /** The manifest that the trainer is prepared for. */
  #prepared: Manifest | null = null;

  constructor(deps: SharedTrainerDeps) {
    this.#deps = deps;
    this.#turns = new TrainerTurns(deps);
  }

  /** Returns one job's share of the trainer. @param weight weight of the job, greater than 0 */
  share(weight: number): TrainerShare {
    const user = this.#turns.join(weight);
    const share = new TrainerShare({ shared: this, user, ...this.#deps });
    this.#shares.set(user, share);
    return share;
  }

  /** Whether several jobs share the trainer. */
  get isShared(): boolean {
    return this.#shares.size > 1;
  }

  /** Returns the name of another job that has the trainer; null while the trainer is free or the user has it. */
  busyWith(user: TurnUser): string | null {
    const { holder } = this.#turns;
    if (holder === null || holder === user) return null;
    return this.#shares.get(holder)!.jobName ?? 'another job';
  }

  /** Returns whether the user has the trainer. */
  hasTurn(user: TurnUser): boolean {
    return this.#turns.holder === user;
  }

  /**
   * Waits for a turn, prepares the trainer for the job, and runs the work.
   */
  async inTurn<T>(
    user: TurnUser,
    manifest: Manifest,
    signal: AbortSignal,
    { turn: turnWork, onTurn, work }: TurnOptions<T>,
  ): Promise<T> {
    const turn = await this.#turn(user, signal, turnWork);
    try {
      onTurn();
      let layout: AdapterLayout | null = null;
      const since = this.#deps.clock.monotonic();
      if (this.#prepared !== manifest) {
        // If the preparation fails or is aborted, the trainer may be prepared for neither the previous job
        // nor this one. The next turn then prepares it again.
        this.#prepared = null;
        layout = await this.#deps.trainer.prepare(manifest, { signal });
        this.#prepared = manifest;
      }
      const preparedMs = this.#deps.clock.monotonic() - since;
      const minMs = Math.max(MIN_TURN_MS, PREPARATIONS_PER_TURN * preparedMs);
      return await work(layout, () => turn.isUp(minMs));
    } finally {
      turn.end();
    }
  }

  /** Waits until the node is not paused and the user has a turn. */
  async #turn(user: TurnUser, signal: AbortSignal, work?: TurnWork): Promise<Turn> {
    const { pauses } = this.#deps;
    const isRest = work?.isRest ?? false;
    for (;;) {
      if (pauses?.blocks(isRest)) await pauses.takesWork(signal, isRest);
      const turn = await this.#turns.claim(user, signal, work);
      if (!pauses?.blocks(isRest)) return turn;
      // A pause began while this user waited for its turn.
      turn.end();
    }
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    if (this.#prepared !== null && !bases.has(this.#prepared.base.digest)) this.#prepared = null;
    await this.#deps.trainer.keepBases(bases);
  }
}

/** The trainer of a node, as one of its jobs uses it. Each call waits for the turn of the job. */
export class TrainerShare implements NodeTrainer, ScoreTrainer {
  /** Called when the job begins or ceases to wait for the trainer. */
  onWait: (() => void) | null = null;
  readonly #shared: SharedTrainer;
  readonly #user: TurnUser;
  readonly #trainer: NodeTrainer;
  readonly #scoreTrainer: ScoreTrainer | null;
  readonly #clock: Clock;
  readonly #pace = new SlicePace();
  #manifest: Manifest | null = null;
  #layout: AdapterLayout = [];
  /** Number of calls that wait for a turn. */
  #waiting = 0;

  constructor(deps: SharedTrainerDeps & { shared: SharedTrainer; user: TurnUser }) {
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

  /** Name of the job of this share; null before its first preparation. */
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

  prepare(manifest: Manifest, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    this.#manifest = manifest;
    return this.#inTurn(signal, async (layout) => {
      if (layout !== null) this.#layout = layout;
      return this.#layout;
    });
  }

  keepBases(bases: ReadonlySet<string>): Promise<void> {
    return this.#shared.keepBases(bases);
  }

  /** Trains a round. Lets a job train in between that would otherwise miss its deadline. */
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
