import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';

/** Buffers kept for the next blob, in MiB: as many as one holder's ranges have in use. */
const SPARE_BUFFERS = 28;

/**
 * Memory for ranges, used again from blob to blob. The hashing thread reads it where it is: handed to and fro instead, it
 * would be new objects on both sides each time, and the garbage collector takes each for as many new bytes. Of shared
 * memory it takes no account at all, so that what is dropped stays for long: hence a pool.
 */
export class RangePool {
  readonly #spare: Uint8Array[] = [];

  take(): Uint8Array {
    return this.#spare.pop() ?? new Uint8Array(new SharedArrayBuffer(BLOB_RANGE_BYTES));
  }

  give(buffer: Uint8Array): void {
    if (this.#spare.length < SPARE_BUFFERS) this.#spare.push(buffer);
  }
}

/** One blob's part of the pool: up to so many buffers at a time; who wants more waits. */
export class RangeBuffers {
  readonly #pool: RangePool;
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  #left: number;

  /** @param options `most`: how many may be in use */
  constructor(options: { most: number }, deps: { pool: RangePool }) {
    this.#left = options.most;
    this.#pool = deps.pool;
  }

  /** A buffer, as soon as there is one. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Uint8Array> {
    signal.throwIfAborted();
    if (this.#left > 0) {
      this.#left--;
      return this.#pool.take();
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

  /** Gives a buffer back, or any part of it. */
  give(part: Uint8Array): void {
    const buffer = new Uint8Array(part.buffer);
    const receive = this.#waiting.shift();
    if (receive !== undefined) {
      receive(buffer);
      return;
    }
    this.#left++;
    this.#pool.give(buffer);
  }
}
