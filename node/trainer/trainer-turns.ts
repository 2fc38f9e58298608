import { raceSignal } from 'race-signal';
import type { Clock } from '../../common/time/clock.ts';

/**
 * Maximum time for which the trainer may be idle, as a fraction of its training time. While it is idle, it waits for a job
 * that has had less than its share. Without idle time, two jobs would always alternate, whatever their weights: a job
 * does not claim its next turn at once when a round ends, so the next turn would always go to the other job.
 */
export const IDLE_SHARE = 0.05;
/**
 * Maximum idle time, in milliseconds, that the trainer may save up. Each turn adds IDLE_SHARE of its
 * duration.
 */
export const MAX_IDLE_MS = 60_000;
/**
 * The trainer may stand idle to wait for a job that is due for a turn. It waits at most this many times as long as the
 * job last paused between two turns, or MIN_PATIENCE_MS if that is longer.
 */
const PAUSE_FACTOR = 2;
const MIN_PATIENCE_MS = 100;
/** Expected pause between the first two turns of a job, in milliseconds. */
const FIRST_PAUSE_MS = 1_000;

/**
 * Minimum time in milliseconds from the start of a turn until another job can ask for its end. Changing the
 * job costs time, so turns must not be shorter.
 */
export const MIN_TURN_MS = 60_000;
/** Time in milliseconds for which a job without a deadline waits before it can ask for the end of a turn. */
export const UNDATED_WAIT_MS = 10 * 60_000;
/**
 * The time that a job reserves for its work before its deadline, as a multiple of the expected duration of
 * the work.
 */
const WORK_MARGIN = 1.25;

/**
 * The work for which a user of the trainer claims a turn. Times are in milliseconds, and `dueAt` is on the monotonic
 * clock.
 */
export interface TurnWork {
  /** Time at which the work should be done; null if it has no deadline. */
  readonly dueAt: number | null;
  /** Expected duration of the work; null if it is unknown. */
  readonly workMs: number | null;
  /**
   * Whether the work continues work that was interrupted at the end of the job's last turn. @default false
   */
  readonly isRest?: boolean;
}

/** A turn of a user. */
export interface Turn {
  /** Ends the turn. The user that has the turn must call this function when its work is done. */
  readonly end: () => void;
  /**
   * Returns whether the user should interrupt its work and end the turn, because another user would otherwise miss its
   * deadline.
   * @param minMs minimum duration of this turn. @default MIN_TURN_MS
   */
  readonly isUp: (minMs?: number) => boolean;
}

/** A turn that a user waits for. */
interface Claim {
  readonly user: TurnUser;
  /** Virtual time (see {@link TrainerTurns}) at which the user claimed the turn. */
  readonly since: number;
  /** Time at which the work should be done, on the monotonic clock. */
  readonly dueAt: number;
  /** Time at which the turn must begin, so that the work is done at `dueAt`. */
  readonly latestStart: number;
  readonly grant: () => void;
}

/** The jobs of a node use the trainer through these objects, one object for each job. */
export class TurnUser {
  /** Share of the trainer, in relation to the weights of the other users. */
  readonly weight: number;
  /** Total time of the user's turns so far, in milliseconds. */
  usedMs = 0;
  /**
   * Virtual time at which the user's last turn ended. In virtual time, a turn lasts its duration divided by the user's
   * weight.
   */
  finish = 0;
  /** Time at which the user's last turn ended; null while the user has or claims a turn, and before its first turn. */
  endedAt: number | null = null;
  /** Milliseconds from the end of the user's last turn to its next claim; null before the second claim. */
  pauseMs: number | null = null;

  constructor(weight: number) {
    this.weight = weight;
  }
}

/**
 * Decides which user, which is a job of the node, has the trainer. A turn lasts until its user ends it. The time of all
 * turns is divided in proportion to the weights (start-time fair queueing, Goyal et al. 1996): each claim gets a
 * virtual start, which is the time that its user has used so far, divided by the user's weight. The claim with the
 * lowest start gets the next turn. A user does not save up time while it claims no turn. If it did, its later turns
 * could keep the other users waiting for a long time.
 *
 * A user that waits can also ask for the end of a turn, under three conditions. The waiting user is about to miss its
 * deadline. It has used less than its share of the time. Its deadline is before that of the user that has the turn, or
 * that user has already missed its own deadline.
 */
export class TrainerTurns {
  readonly #clock: Clock;
  readonly #users: TurnUser[] = [];
  readonly #claims: Claim[] = [];
  #holder: TurnUser | null = null;
  /** The current virtual time: the virtual start of the newest turn. */
  #virtual = 0;
  /**
   * Time, in milliseconds, for which the trainer may still stand idle to wait for one job while another job
   * claims a turn. Each turn adds IDLE_SHARE of its duration.
   */
  #idleMs = 0;
  /**
   * Time at which the trainer began to stand idle although a job claims a turn; null if the trainer is not
   * standing idle.
   */
  #idleSince: number | null = null;
  #cancelIdle = (): void => {};

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Adds a user. @param weight greater than 0 */
  join(weight: number): TurnUser {
    const user = new TurnUser(weight);
    this.#users.push(user);
    return user;
  }

  /** The user that has the trainer; null while no user has it. */
  get holder(): TurnUser | null {
    return this.#holder;
  }

  /**
   * Waits for a turn.
   * @param work @default work without a deadline
   * @throws the signal's reason if it aborts first
   */
  async claim(
    user: TurnUser,
    signal: AbortSignal,
    { dueAt, workMs, isRest = false }: TurnWork = { dueAt: null, workMs: null },
  ): Promise<Turn> {
    signal.throwIfAborted();
    const now = this.#clock.monotonic();
    if (user.endedAt !== null && !isRest) user.pauseMs = now - user.endedAt;
    user.endedAt = null;
    const { promise, resolve } = Promise.withResolvers<void>();
    const due = dueAt ?? now + UNDATED_WAIT_MS;
    const latestStart = dueAt === null ? due : workMs === null ? (now + due) / 2 : due - WORK_MARGIN * workMs;
    const claim: Claim = { user, since: this.#virtual, dueAt: due, latestStart, grant: resolve };
    this.#claims.push(claim);
    this.#next();
    try {
      await raceSignal(promise, signal);
    } catch (error) {
      this.#withdraw(claim);
      throw error;
    }
    const since = this.#clock.monotonic();
    let ended = false;
    const elapsed = (): number => this.#clock.monotonic() - since;
    return {
      end: () => {
        if (ended) return;
        ended = true;
        this.#end(claim, elapsed());
      },
      isUp: (minMs = MIN_TURN_MS) => elapsed() >= minMs && this.#isAwaited(claim, elapsed()),
    };
  }

  /** Returns whether a user that waits can ask for the end of the turn of `claim`, which has lasted for `ms`. */
  #isAwaited({ dueAt, user, ...claim }: Claim, ms: number): boolean {
    const now = this.#clock.monotonic();
    const finish = startOf({ user, ...claim }) + ms / user.weight;
    return this.#claims.some(
      (other) => other.latestStart <= now && startOf(other) < finish && (other.dueAt < dueAt || dueAt <= now),
    );
  }

  #withdraw(claim: Claim): void {
    const place = this.#claims.indexOf(claim);
    // The signal may abort after the turn was granted and before `claim` returns it. In this case, the claim is
    // no longer in the list, and its turn ends.
    if (place < 0) this.#end(claim, 0);
    else this.#claims.splice(place, 1);
  }

  #end(claim: Claim, ms: number): void {
    const { user } = claim;
    user.finish = startOf(claim) + ms / user.weight;
    user.usedMs += ms;
    if (!this.#claims.some((other) => other.user === user)) user.endedAt = this.#clock.monotonic();
    this.#idleMs = Math.min(MAX_IDLE_MS, this.#idleMs + IDLE_SHARE * ms);
    this.#holder = null;
    this.#next();
  }

  /**
   * Gives the trainer to the claim with the lowest virtual start (see {@link TrainerTurns}). If another user will
   * probably soon claim a turn with a lower virtual start, first waits a short time for that user.
   */
  #next(): void {
    this.#cancelIdle();
    const first = this.#claims.reduce<Claim | null>(
      (best, claim) => (best === null || startOf(claim) < startOf(best) ? claim : best),
      null,
    );
    if (this.#holder !== null || first === null) return;
    const now = this.#clock.monotonic();
    const spent = this.#idleSince === null ? 0 : now - this.#idleSince;
    const patience = this.#patienceFor(first, now, this.#idleMs - spent);
    if (patience > 0) {
      this.#idleSince ??= now;
      this.#cancelIdle = this.#clock.after(patience, () => this.#next());
      return;
    }
    this.#idleMs -= spent;
    this.#idleSince = null;
    this.#claims.splice(this.#claims.indexOf(first), 1);
    this.#virtual = startOf(first);
    this.#holder = first.user;
    first.grant();
  }

  /**
   * Returns the time in milliseconds to wait for users that have no claim now, but whose claim would come before
   * `first`. Returns 0 if these users are not expected to claim a turn within `idleMs`.
   */
  #patienceFor(first: Claim, now: number, idleMs: number): number {
    const times = this.#users
      .filter(({ finish, endedAt }) => endedAt !== null && finish < startOf(first))
      .map(({ pauseMs, endedAt }) => {
        const expected = PAUSE_FACTOR * (pauseMs ?? FIRST_PAUSE_MS);
        return Math.max(MIN_PATIENCE_MS, expected) - (now - endedAt!);
      })
      .filter((ms) => ms > 0 && ms <= idleMs);
    return Math.max(0, ...times);
  }
}

/** Returns the virtual time at which a turn begins. The claim with the lowest start gets the next turn. */
function startOf({ user, since }: Pick<Claim, 'user' | 'since'>): number {
  return Math.max(since, user.finish);
}
