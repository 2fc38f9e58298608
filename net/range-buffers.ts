import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';

/** Buffers of one range each, used again and again: what dies young costs the garbage collector least, but not dying costs it nothing. */
export class RangeBuffers {
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  readonly #waiting: ((buffer: Uint8Array<ArrayBuffer>) => void)[] = [];
  #left: number;

  /** @param most how many there may be */
  constructor(most: number) {
    this.#left = most;
  }

  /** A buffer, as soon as there is one. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    signal.throwIfAborted();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#left > 0) {
      this.#left--;
      return new Uint8Array(BLOB_RANGE_BYTES);
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(receive), 1);
        reject(signal.reason);
      };
      const receive = (buffer: Uint8Array<ArrayBuffer>): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(buffer);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(receive);
    });
  }

  /** Gives a buffer back, or any part of it. */
  give(part: Uint8Array): void {
    const buffer = new Uint8Array(part.buffer as ArrayBuffer);
    const receive = this.#waiting.shift();
    if (receive === undefined) this.#free.push(buffer);
    else receive(buffer);
  }
}
