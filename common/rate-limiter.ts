import type { Clock } from './clock.ts';

/** A number of calls that a key may make per `perMs` milliseconds. */
export interface Quota {
  readonly calls: number;
  readonly perMs: number;
}

/**
 * Largest number of keys in memory. The least recently used are dropped first, because their quotas have refilled the
 * most.
 */
const REMEMBERED_KEYS = 4096;

/**
 * Limits the rate of calls with the generic cell rate algorithm (ITU-T I.371). Each key may make `calls` calls at once,
 * and earns them back evenly over `perMs` milliseconds. The state of a key is one number: the time at which its bucket
 * of recent calls is empty again.
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
    this.#emptyAt.delete(key);
    this.#emptyAt.set(key, emptyAt);
    if (this.#emptyAt.size > REMEMBERED_KEYS) this.#prune(now);
    return true;
  }

  #prune(now: number): void {
    for (const [key, emptyAt] of this.#emptyAt) if (emptyAt <= now) this.#emptyAt.delete(key);
    // A map lists keys in insertion order, here the order of their last calls, so the least recently used come first.
    for (const key of this.#emptyAt.keys()) {
      if (this.#emptyAt.size <= REMEMBERED_KEYS) return;
      this.#emptyAt.delete(key);
    }
  }
}
