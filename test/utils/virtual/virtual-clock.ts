import type { Clock } from '../../../common/time/clock.ts';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled: boolean;
}

/** Start of the monotonic clock. It differs from the epoch, so that confusing the two clocks fails a test. */
const MONOTONIC_START = 1_000_000;

/** Time in whole milliseconds that jumps from one timer to the next. Timers of equal times fire in the order of their creation. */
export class VirtualClock implements Clock {
  readonly #start: number;
  #now: number;
  #order = 0;
  /** A binary heap by time, then by order of creation. */
  readonly #timers: Timer[] = [];
  readonly #held = new Set<Promise<unknown>>();

  constructor(start: number) {
    this.#start = start;
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return MONOTONIC_START + this.#now - this.#start;
  }

  after(ms: number, callback: () => void): () => void {
    const timer: Timer = {
      at: this.#now + Math.max(0, Math.ceil(ms)),
      order: this.#order++,
      callback,
      cancelled: false,
    };
    this.#push(timer);
    return () => {
      timer.cancelled = true;
    };
  }

  /**
   * Returns the clock of one process. Its timers end with the process.
   * @param wrongMs current error of the machine's clock
   */
  process(isAlive: () => boolean, wrongMs: () => number = () => 0): Clock {
    return {
      now: () => this.#now + wrongMs(),
      monotonic: () => this.monotonic(),
      after: (ms, callback) =>
        this.after(ms, () => {
          if (isAlive()) callback();
        }),
    };
  }

  /** Stops the clock until a computation has ended, so that it takes no virtual time. Returns its result. */
  async hold<T>(work: Promise<T>): Promise<T> {
    this.#held.add(work);
    try {
      return await work;
    } finally {
      this.#held.delete(work);
    }
  }

  /** Runs timers until `done` returns true or the deadline passes. @returns whether `done` returned true */
  async run(done: () => boolean, deadlineMs: number): Promise<boolean> {
    const end = this.#now + deadlineMs;
    for (;;) {
      await settled();
      while (this.#held.size > 0) {
        await Promise.allSettled(this.#held);
        await settled();
      }
      if (done()) return true;
      const timer = this.#next();
      if (!timer || timer.at > end) {
        this.#now = end;
        return false;
      }
      this.#pop();
      this.#now = timer.at;
      timer.callback();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let child = heap.push(timer) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!earlier(timer, heap[parent]!)) break;
      heap[child] = heap[parent]!;
      child = parent;
    }
    heap[child] = timer;
  }

  /** Returns the next timer that is not cancelled, without removing it. */
  #next(): Timer | null {
    while (this.#timers[0]?.cancelled) this.#pop();
    return this.#timers[0] ?? null;
  }

  #pop(): void {
    const last = this.#timers.pop()!;
    if (this.#timers.length > 0) this.#sink(last);
  }

  #sink(timer: Timer): void {
    const heap = this.#timers;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && earlier(heap[child + 1]!, heap[child]!)) child++;
      if (!earlier(heap[child]!, timer)) break;
      heap[parent] = heap[child]!;
      parent = child;
    }
    heap[parent] = timer;
  }
}

function earlier(a: Timer, b: Timer): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at;
}

/** Resolves when no pending promise can continue without a timer: a macrotask runs after all microtasks. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
