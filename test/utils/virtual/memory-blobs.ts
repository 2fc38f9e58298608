import { SwarmError } from '../../../common/errors.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import type { BlobStore } from '../../../storage/blobs.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Time from a write, or a deletion, to its being durable, ms. */
const WRITE_MS: [number, number] = [0.5, 20];

/** A disk: what is on it survives the processes that use it. */
export class MemoryDisk {
  readonly files = new Map<string, Uint8Array>();
}

/** A process's view of its disk. What it had not finished writing when it died is not there. */
export class MemoryBlobs implements BlobStore {
  readonly #files: Map<string, Uint8Array>;
  readonly #clock: VirtualClock;
  readonly #random: SeededRandom;
  readonly #isAlive: () => boolean;
  readonly #onWrite: () => void;

  constructor(
    _options: object,
    deps: {
      disk: MemoryDisk;
      clock: VirtualClock;
      random: SeededRandom;
      isAlive: () => boolean;
      /** A write begins: the moments after it are the ones in which a crash is worth most. */
      onWrite?: () => void;
    },
  ) {
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
    return bytes.slice();
  }

  async read(digest: string, offset: number, length: number): Promise<Uint8Array> {
    const bytes = await this.get(digest, { maxBytes: Number.MAX_SAFE_INTEGER });
    return bytes.slice(offset, offset + length);
  }

  /** Takes its time too: much can happen between the decision and the end. */
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
