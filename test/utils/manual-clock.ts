import type { Clock } from '../../common/clock.ts';

<<<<<<< HEAD
/** A clock that moves only when a test advances it. */
=======
/** A clock that a test moves. */
>>>>>>> 5534607 (Announce public addresses, limit relayed connections, measure the network)
export class ManualClock implements Clock {
  #now = 1_000_000;
  #epoch = 1_700_000_000_000;
  readonly #timers = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.#epoch + this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

<<<<<<< HEAD
  /** Sets the wall clock forward or back. Timers do not change. */
=======
  /** Sets the time of `now()` forward or back, as a person sets a machine's clock. Timers are not affected. */
>>>>>>> 5534607 (Announce public addresses, limit relayed connections, measure the network)
  set(byMs: number): void {
    this.#epoch += byMs;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

<<<<<<< HEAD
  /** Times at which timers are due, in milliseconds from now. */
=======
  /** Returns the milliseconds until each timer. */
>>>>>>> 5534607 (Announce public addresses, limit relayed connections, measure the network)
  due(): number[] {
    return [...this.#timers].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

<<<<<<< HEAD
  /** Advances the time, and runs the timers that become due, in order. */
=======
  /** Advances the clock and runs the timers that become due, in order. */
>>>>>>> 5534607 (Announce public addresses, limit relayed connections, measure the network)
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}
