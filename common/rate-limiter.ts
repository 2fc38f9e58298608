import type { Clock } from './clock.ts';

export interface Quota {
  readonly calls: number;
  readonly perMs: number;
}

/** Keys remembered at once. The least recently used are dropped first: their quota has refilled. */
const REMEMBERED_KEYS = 4096;

/**
 * Generic cell rate algorithm (ITU-T I.371): each key may make `calls` calls at once, and earns them back evenly over
 * `perMs` milliseconds. State is one number per key: the time at which its bucket is empty again.
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
    // Insertion order is the order of the last call.
    for (const key of this.#emptyAt.keys()) {
      if (this.#emptyAt.size <= REMEMBERED_KEYS) return;
      this.#emptyAt.delete(key);
    }
  }
}
