import type { Clock } from '../../common/time/clock.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { nodeError } from '../errors.ts';
import type { Pauses } from '../limits/pauses.ts';
import type { NodeTrainer, ScoreTrainer } from './trainer.ts';
import { type TrainerAccess, TrainerShare, type TurnOptions } from './trainer-share.ts';
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
 * Minimum duration of a turn, as a multiple of the time that it took to prepare the trainer in this turn.
 * Loading a base can take minutes, so a shorter turn would spend most of its time on loading.
 */
const PREPARATIONS_PER_TURN = 4;

/**
 * The trainer of a node, which the jobs of the node share. One job at a time has it, mostly for a whole round. Between
 * two rounds, the trainer switches to the job that gets the next turn. It switches within a round if the other job would
 * otherwise miss its deadline.
 */
export class SharedTrainer implements TrainerAccess {
  readonly #deps: SharedTrainerDeps;
  readonly #turns: TrainerTurns;
  readonly #shares = new Map<TurnUser, TrainerShare>();
  /** The manifest that the trainer is prepared for. */
  #prepared: Manifest | null = null;
  /** The preparation that runs now. `isEnded`: whether the trainer process with its base was ended meanwhile. */
  #preparing: { readonly base: string; isEnded: boolean } | null = null;

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

  get isShared(): boolean {
    return this.#shares.size > 1;
  }

  busyWith(user: TurnUser): string | null {
    const { holder } = this.#turns;
    if (holder === null || holder === user) return null;
    return this.#shares.get(holder)!.jobName ?? 'another job';
  }

  hasTurn(user: TurnUser): boolean {
    return this.#turns.holder === user;
  }

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
        const preparing = { base: manifest.base.digest, isEnded: false };
        this.#preparing = preparing;
        layout = await this.#deps.trainer.prepare(manifest, { signal });
        if (preparing.isEnded)
          throw nodeError('TRAINER_NOT_PREPARED', 'the base was unloaded while a job waited for it');
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
      // Give the turn back, because a pause began while this user waited for it.
      turn.end();
    }
  }

  async keepBases(bases: ReadonlySet<string>): Promise<void> {
    this.#forgetOthers(bases);
    await this.#deps.trainer.keepBases(bases);
  }

  async releaseMemory(bases: ReadonlySet<string>): Promise<void> {
    this.#forgetOthers(bases);
    await this.#deps.trainer.releaseMemory(bases);
  }

  /** Notes that the trainer is no longer prepared for a base outside `bases`. */
  #forgetOthers(bases: ReadonlySet<string>): void {
    if (this.#prepared !== null && !bases.has(this.#prepared.base.digest)) this.#prepared = null;
    if (this.#preparing !== null && !bases.has(this.#preparing.base)) this.#preparing.isEnded = true;
  }
}
