import type { Clock } from '../../common/clock.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainProgress } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import { nodeError } from '../errors.ts';
import type { Pauses } from '../limits/pauses.ts';
import type { NodeTrainer, ScoreTrainer, TrainedRound, TrainTask } from '../trainer.ts';
import { TrainerTurns, type TurnUser } from './trainer-turns.ts';

interface SharedTrainerDeps {
  readonly trainer: NodeTrainer;
  /** Trainer that computes scores; null if the node does not offer to compute scores. */
  readonly scoreTrainer: ScoreTrainer | null;
  readonly clock: Clock;
  /** The pause of the node, during which no work begins. @default the node never pauses */
  readonly pauses?: Pauses | undefined;
}

/**
 * The trainer of a node, which the jobs of the node share. One job at a time has it, for a whole round. Between two
 * rounds, the trainer switches to the job that gets the next turn.
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
   * @param onTurn called when the turn begins
   */
  async inTurn<T>(
    user: TurnUser,
    manifest: Manifest,
    signal: AbortSignal,
    { onTurn, work }: { onTurn: () => void; work: (layout: AdapterLayout | null) => Promise<T> },
  ): Promise<T> {
    const end = await this.#turn(user, signal);
    try {
      onTurn();
      let layout: AdapterLayout | null = null;
      if (this.#prepared !== manifest) {
        // If the preparation fails or is aborted, the trainer may be prepared for neither the previous job
        // nor this one. The next turn then prepares it again.
        this.#prepared = null;
        layout = await this.#deps.trainer.prepare(manifest, { signal });
        this.#prepared = manifest;
      }
      return await work(layout);
    } finally {
      end();
    }
  }

  /** Waits until the node is not paused and the user has a turn. Returns a function that ends the turn. */
  async #turn(user: TurnUser, signal: AbortSignal): Promise<() => void> {
    const { pauses } = this.#deps;
    for (;;) {
      if (pauses?.isBlocked) await pauses.takesWork(signal);
      const end = await this.#turns.claim(user, signal);
      if (!pauses?.isBlocked) return end;
      // A pause began while this user waited for its turn.
      end();
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
  #manifest: Manifest | null = null;
  #layout: AdapterLayout = [];
  /** Number of calls that wait for a turn. */
  #waiting = 0;

  constructor(deps: SharedTrainerDeps & { shared: SharedTrainer; user: TurnUser }) {
    this.#shared = deps.shared;
    this.#user = deps.user;
    this.#trainer = deps.trainer;
    this.#scoreTrainer = deps.scoreTrainer;
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

  train(
    task: TrainTask,
    options: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
    return this.#inTurn(options.signal, () => this.#trainer.train(task, options));
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

  async #inTurn<T>(signal: AbortSignal, work: (layout: AdapterLayout | null) => Promise<T>): Promise<T> {
    if (this.#manifest === null) {
      throw nodeError('TRAINER_NOT_PREPARED', 'no job has been prepared for this trainer');
    }
    let isWaiting = true;
    this.#waiting++;
    const onTurn = (): void => {
      if (!isWaiting) return;
      isWaiting = false;
      this.#waiting--;
      if (isReported) this.onWait?.();
    };
    const running = this.#shared.inTurn(this.#user, this.#manifest, signal, { onTurn, work });
    const isReported = this.busyWith !== null;
    if (isReported) this.onWait?.();
    try {
      return await running;
    } finally {
      onTurn();
    }
  }
}
