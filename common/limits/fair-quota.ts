import type { Clock } from '../time/clock.ts';
import { sleep } from '../time/deadline.ts';
import { FairTurns, type FairTurnsOptions, type TurnClaim } from './fair-turns.ts';
import { type Quota, RateLimiter } from './rate-limiter.ts';

export interface FairQuotaOptions extends Quota, FairTurnsOptions {
  /** Maximum wait of a call, in milliseconds. */
  readonly patienceMs: number;
}

/**
 * A quota that many callers share. While calls are left, a call is granted immediately. When the quota is used up, calls
 * wait in a line, in which addresses take turns (see {@link FairTurns}). A caller that is alone at its address therefore
 * waits for about one call of each other address, even if these addresses make calls without end. Nothing is remembered
 * about a caller whose calls have ended.
 */
export class FairQuota {
  readonly #options: FairQuotaOptions;
  readonly #clock: Clock;
  readonly #limiter: RateLimiter;
  readonly #turns: FairTurns;

  constructor(options: FairQuotaOptions, deps: { clock: Clock }) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#limiter = new RateLimiter(deps);
    this.#turns = new FairTurns(options, deps);
  }

  /** Number of calls that wait in the line. */
  get waiting(): number {
    return this.#turns.waiting;
  }

  /**
   * Takes one call from the quota, and waits for it if necessary.
   * @param options.isNeeded checked when it is the turn of the call. If it returns false, the call is granted without
   *   taking it from the quota. @default the call is always needed
   * @returns false if the call waited for `patienceMs`, or if its caller made a second call meanwhile
   * @throws the signal's reason
   */
  async take(
    claim: TurnClaim,
    { signal, isNeeded = () => true }: { signal: AbortSignal; isNeeded?: () => boolean },
  ): Promise<boolean> {
    const { patienceMs, calls, perMs } = this.#options;
    const until = this.#clock.monotonic() + patienceMs;
    const end = await this.#turns.take(claim, signal);
    if (end === null) {
      signal.throwIfAborted();
      return false;
    }
    try {
      signal.throwIfAborted();
      while (isNeeded()) {
        // A call that has waited for too long leaves the line as soon as its turn comes. It does not also wait for the
        // quota, so that the line gets shorter.
        if (this.#clock.monotonic() > until) return false;
        if (this.#limiter.take('', { calls, perMs })) return true;
        await sleep(this.#clock, perMs / calls, signal);
      }
      return true;
    } finally {
      end();
    }
  }
}
