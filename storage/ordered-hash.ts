import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import { type Release, type RunningHash, startHash } from './running-hash.ts';

/** Maximum number of ranges kept in memory until they can be hashed. Further ranges are read back from disk. */
export const HELD_RANGES = 16;

export interface OrderedHashDeps {
  /** Returns whether a range can be read back from the disk. */
  has(range: number): boolean;
  /** Reads a range from the disk into `buffer`. Returns the filled part of `buffer`. */
  read(range: number, buffer: Uint8Array): Promise<Uint8Array>;
}

/** Computes the digest of a blob while its ranges arrive in any order. */
export class OrderedHash {
  readonly #ranges: number;
  readonly #deps: OrderedHashDeps;
  readonly #hash: RunningHash;
  /** Number of the next range to hash. All ranges before it were passed to `#hash`. */
  #next = 0;
  readonly #held = new Map<number, { bytes: Uint8Array; release: Release }>();
  #catchingUp: Promise<void> | undefined;
  #closed = false;

  constructor(options: { size: number; ranges: number }, deps: OrderedHashDeps) {
    this.#ranges = options.ranges;
    this.#deps = deps;
    this.#hash = startHash(options.size);
  }

  /**
   * Adds a range of the blob that has been written to disk. Calls `release` when the memory of `bytes` may be reused.
   */
  add(range: number, bytes: Uint8Array, release: Release): void {
    this.#feed(range, bytes, release);
    // Read ranges back now, while other ranges still arrive. Reading them all at the end would take longer. If this
    // fails, `digest` reports the error.
    if (this.#deps.has(this.#next)) this.#catchUp().catch(() => {});
  }

  /** Returns the digest of the whole blob. All ranges must have arrived. */
  async digest(): Promise<string> {
    while (this.#next < this.#ranges) await this.#catchUp();
    return this.#hash.digest();
  }

  close(): void {
    this.#closed = true;
    this.#hash.close();
    for (const { bytes, release } of this.#held.values()) release(bytes);
    this.#held.clear();
  }

  /**
   * If the range is the next one, hashes it and the held ranges that follow it. Otherwise holds the range in memory,
   * but drops it if {@link HELD_RANGES} ranges are held already.
   */
  #feed(range: number, bytes: Uint8Array, release: Release): void {
    if (range !== this.#next) {
      if (this.#held.size < HELD_RANGES) this.#held.set(range, { bytes, release });
      else release(bytes);
      return;
    }
    this.#hash.update(bytes, release);
    this.#next++;
    const next = this.#held.get(this.#next);
    if (next === undefined) return;
    this.#held.delete(this.#next);
    this.#feed(this.#next, next.bytes, next.release);
  }

  #catchUp(): Promise<void> {
    this.#catchingUp ??= this.#readBack().finally(() => {
      this.#catchingUp = undefined;
    });
    return this.#catchingUp;
  }

  async #readBack(): Promise<void> {
    const buffer = new Uint8Array(BLOB_RANGE_BYTES);
    while (this.#deps.has(this.#next)) {
      const range = this.#next;
      const bytes = await this.#deps.read(range, buffer);
      if (this.#closed) return;
      await new Promise((resolve) => this.#feed(range, bytes, resolve));
    }
  }
}
