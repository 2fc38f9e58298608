/** So many at a time per key; the others wait in line. */
export class Permits {
  readonly #most: number;
  readonly #taken = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Resolves with a function that gives the permit back. @throws the signal's reason */
  async take(key: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const taken = this.#taken.get(key) ?? 0;
    if (taken < this.#most) this.#taken.set(key, taken + 1);
    else await this.#turn(key, signal);
    let given = false;
    return () => {
      if (!given) this.#give(key);
      given = true;
    };
  }

  /** A permit that is given back goes to the next in line without becoming free. */
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

  #give(key: string): void {
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
