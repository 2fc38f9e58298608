import { Permits } from '../../common/limits/permits.ts';
import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';

/**
 * Maximum number of unused buffers of 1 MiB that are kept for the next blob. A fetch from one holder uses 28 buffers, and a
 * few more only while it keeps the bytes of failed requests.
 */
const SPARE_BUFFERS = 28;

/**
 * A pool of shared memory for ranges, reused from blob to blob. The hashing thread reads shared memory directly;
 * transferring a buffer to that thread would allocate memory in both threads. The buffers are pooled because the
 * garbage collector does not count shared memory and therefore frees it late.
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

/** The buffers for one blob. At most `most` buffers are in use at a time. A caller that needs another buffer waits. */
export class RangeBuffers {
  readonly #pool: RangePool;
  readonly #permits: Permits;
  readonly #releases: (() => void)[] = [];

  /** @param options.most maximum number of buffers in use */
  constructor(options: { most: number }, deps: { pool: RangePool }) {
    this.#permits = new Permits(options.most);
    this.#pool = deps.pool;
  }

  /** Waits for a buffer. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Uint8Array> {
    this.#releases.push(await this.#permits.take('', signal));
    return this.#pool.take();
  }

  /** Gives a buffer back to the pool. @param part the buffer or any part of it */
  give(part: Uint8Array): void {
    this.#pool.give(new Uint8Array(part.buffer));
    this.#releases.pop()?.();
  }
}
