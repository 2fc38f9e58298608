import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import { type Done, type RunningHash, startHash } from './running-hash.ts';

/** Ranges that may wait in memory for their turn in the hash; others are read back when it comes. */
export const HELD_RANGES = 16;

export interface OrderedHashDeps {
  /** Whether a range can be read back. */
  has(range: number): boolean;
  /** Reads a range back into the buffer; returns its part that was filled. */
  read(range: number, buffer: Uint8Array): Promise<Uint8Array>;
}

/** The digest of a blob whose ranges arrive in any order, computed while they arrive. */
export class OrderedHash {
  readonly #ranges: number;
  readonly #deps: OrderedHashDeps;
  readonly #hash: RunningHash;
  /** Ranges below this one are in the hash, or on their way to it. */
  #next = 0;
  readonly #held = new Map<number, { bytes: Uint8Array; release: Done }>();
  #catchingUp: Promise<void> | undefined;
  #closed = false;

  constructor(options: { size: number; ranges: number }, deps: OrderedHashDeps) {
    this.#ranges = options.ranges;
    this.#deps = deps;
    this.#hash = startHash(options.size);
  }

  /** Takes a range that can be read back from now on. The bytes come back through `release`. */
  add(range: number, bytes: Uint8Array, release: Done): void {
    this.#feed(range, bytes, release);
    // What is not in memory at its turn is better read back now than all at the end. `digest` reports failures.
    if (this.#deps.has(this.#next)) this.#catchUp().catch(() => {});
  }

  /** The digest of the whole, once every range is there. */
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

  /** Hashes a range if it is its turn, and what waited for it; keeps it for its turn otherwise, if there is room. */
  #feed(range: number, bytes: Uint8Array, release: Done): void {
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
