import type { Clock } from '../time/clock.ts';

/** Maximum number of calls that one key may make per `perMs` milliseconds. */
export interface Quota {
  readonly calls: number;
  readonly perMs: number;
}

/**
 * Number of keys that the limiter keeps when it forgets all other keys. At most twice this number of keys is in memory.
 */
const REMEMBERED_KEYS = 4096;

/**
 * Limits the rate of calls with the generic cell rate algorithm (ITU-T I.371). Each key may make `calls` calls at once,
 * and earns them back evenly over `perMs` milliseconds. The state of a key is one number: the time at which its bucket
 * of recent calls is empty again.
 *
 * When there are too many keys, the limiter forgets the keys that have used the least of their quotas. A key that has
 * used up its quota therefore stays limited while callers invent new keys, because the new keys have used less of their
 * quotas.
 */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #emptyAt = new Map<string, number>();

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Takes one call from the quota of a key. Returns false and takes nothing if the quota is used up. */
  take(key: string, quota: Quota): boolean {
    const now = this.#clock.monotonic();
    const emptyAt = Math.max(now, this.#emptyAt.get(key) ?? 0) + quota.perMs / quota.calls;
    if (emptyAt - now > quota.perMs) return false;
    this.#emptyAt.set(key, emptyAt);
    if (this.#emptyAt.size > 2 * REMEMBERED_KEYS) this.#forget(now);
    return true;
  }

  /**
   * Forgets at least half of the keys. `take` calls this method only after thousands of new keys, so the sorting costs
   * little per call of `take`.
   */
  #forget(now: number): void {
    for (const [key, emptyAt] of this.#emptyAt) if (emptyAt <= now) this.#emptyAt.delete(key);
    const leastUsedFirst = [...this.#emptyAt].sort(([, a], [, b]) => a - b);
    for (const [key] of leastUsedFirst.slice(0, -REMEMBERED_KEYS)) this.#emptyAt.delete(key);
  }
}
