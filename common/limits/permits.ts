/**
 * A semaphore for each key. Up to `most` callers hold a permit of the same key at a time; others wait, first come,
 * first served. The package p-limit has no keys, and its callers cannot leave the queue when a signal aborts.
 */
export class Permits {
  readonly #most: number;
  readonly #taken = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Waits for a permit. Returns a function that releases it. @throws the signal's reason */
  async take(key: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const taken = this.#taken.get(key) ?? 0;
    if (taken < this.#most) this.#taken.set(key, taken + 1);
    else await this.#turn(key, signal);
    let released = false;
    return () => {
      if (!released) this.#release(key);
      released = true;
    };
  }

  /**
   * Waits until {@link #release} passes on a permit. Listens to the signal directly instead of racing promises, because
   * an aborted waiter must leave the queue immediately. Otherwise it could receive a permit and never release it.
   */
  #turn(key: string, signal: AbortSignal): Promise<void> {
    const line = this.#waiting.get(key) ?? [];
    this.#waiting.set(key, line);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        line.splice(line.indexOf(onTurn), 1);
        reject(signal.reason);
      };
      const onTurn = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      line.push(onTurn);
    });
  }

  /** Passes the permit to the next waiter, or frees it. */
  #release(key: string): void {
    const next = this.#waiting.get(key)?.shift();
    if (next !== undefined) {
      next();
      return;
    }
    this.#waiting.delete(key);
    const left = (this.#taken.get(key) ?? 1) - 1;
    if (left === 0) this.#taken.delete(key);
    else this.#taken.set(key, left);
  }
}
