import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import { hashBuffer } from './running-hash.ts';

/** Buffers of one range each, used again and again: what dies young costs the garbage collector least, but not dying costs it nothing. */
export class RangeBuffers {
  readonly #free: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  readonly #size: number;
  #left: number;

  /** @param options `most`: how many there may be; `size`: bytes of the blob that they are for */
  constructor(options: { most: number; size: number }) {
    this.#size = options.size;
    this.#left = options.most;
  }

  /** A buffer, as soon as there is one. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Uint8Array> {
    signal.throwIfAborted();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#left > 0) {
      this.#left--;
      return hashBuffer(BLOB_RANGE_BYTES, this.#size);
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
    if (receive === undefined) this.#free.push(buffer);
    else receive(buffer);
  }
}
