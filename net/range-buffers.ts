import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';

/** Buffers of one range each, used again and again, in memory that a hashing thread can see. */
export class RangeBuffers {
  readonly #free: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  #left: number;

  /** @param most how many there may be */
  constructor(most: number) {
    this.#left = most;
  }

  /** A buffer, as soon as there is one. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Uint8Array> {
    signal.throwIfAborted();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#left > 0) {
      this.#left--;
      return new Uint8Array(new SharedArrayBuffer(BLOB_RANGE_BYTES));
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(receive), 1);
        reject(signal.reason);
      };
      const receive = (buffer: Uint8Array): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(buffer);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(receive);
    });
  }

  give(buffer: Uint8Array): void {
    const receive = this.#waiting.shift();
    if (receive === undefined) this.#free.push(buffer);
    else receive(buffer);
  }
}
