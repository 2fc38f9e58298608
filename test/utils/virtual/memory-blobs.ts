import { SwarmError } from '../../../common/errors.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import type { BlobStore } from '../../../storage/blobs.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Minimum and maximum time until a write or a deletion is durable, in ms. */
const WRITE_MS: [number, number] = [0.5, 20];

/** A disk, whose files survive the processes that use it. */
export class MemoryDisk {
  readonly files = new Map<string, Uint8Array>();
  /** Error of each write; null if writes succeed. */
  failure: Error | null = null;
}

/** The blob store of one process on a disk. A write that is unfinished when the process dies has no effect. */
export class MemoryBlobs implements BlobStore {
  readonly #disk: MemoryDisk;
  readonly #files: Map<string, Uint8Array>;
  readonly #clock: VirtualClock;
  readonly #random: SeededRandom;
  readonly #isAlive: () => boolean;
  readonly #onWrite: () => void;

  constructor(deps: {
    disk: MemoryDisk;
    clock: VirtualClock;
    random: SeededRandom;
    isAlive: () => boolean;
    /** Called when a write begins, so that a test can crash the process right after. */
    onWrite?: () => void;
  }) {
    this.#disk = deps.disk;
    this.#files = deps.disk.files;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#isAlive = deps.isAlive;
    this.#onWrite = deps.onWrite ?? (() => {});
  }

  async has(digest: string): Promise<boolean> {
    return this.#files.has(digest);
  }

  async size(digest: string): Promise<number | null> {
    return this.#files.get(digest)?.byteLength ?? null;
  }

  put(bytes: Uint8Array): Promise<string> {
    if (this.#disk.failure !== null) return Promise.reject(this.#disk.failure);
    const copy = bytes.slice();
    const digest = sha256(copy);
    this.#onWrite();
    return new Promise((resolve) => {
      this.#clock.after(this.#random.between(...WRITE_MS), () => {
        if (!this.#isAlive()) return;
        this.#files.set(digest, copy);
        resolve(digest);
      });
    });
  }

  async get(digest: string, { maxBytes }: { maxBytes: number }): Promise<Uint8Array> {
    const bytes = this.#files.get(digest);
    if (!bytes) throw new SwarmError('BLOB_MISSING', `no blob ${digest}`, { digest });
    if (bytes.byteLength > maxBytes)
      throw new SwarmError('BLOB_SIZE', `blob ${digest} is too large`, { digest });
    if (sha256(bytes) !== digest) {
      this.#files.delete(digest);
      throw new SwarmError('BLOB_CORRUPT', `blob ${digest} is damaged`, { digest });
    }
    return bytes.slice();
  }

  async check(digest: string): Promise<'whole' | 'missing' | 'damaged'> {
    const bytes = this.#files.get(digest);
    if (bytes === undefined) return 'missing';
    return sha256(bytes) === digest ? 'whole' : 'damaged';
  }

  async read(digest: string, offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.#files.get(digest);
    if (!bytes) throw new SwarmError('BLOB_MISSING', `no blob ${digest}`, { digest });
    return bytes.slice(offset, offset + length);
  }

  async deletePartial(): Promise<void> {}

  /** Takes as long as a write, so that a test can crash the process meanwhile. */
  delete(digest: string): Promise<void> {
    this.#onWrite();
    return new Promise((resolve) => {
      this.#clock.after(this.#random.between(...WRITE_MS), () => {
        if (!this.#isAlive()) return;
        this.#files.delete(digest);
        resolve();
      });
    });
  }
}
