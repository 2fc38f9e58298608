import { type FileHandle, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../common/common-errors.ts';
import { writeError } from '../common/files/durable.ts';
import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import { storageError } from './errors.ts';
import { OrderedHash } from './ordered-hash.ts';
import { RangeMap, unlessLost } from './range-map.ts';
import type { Release } from './running-hash.ts';

export interface PartialBlobOptions {
  digest: string;
  /**
   * Name of the group of holders that supply the bytes. Each origin has its own partial blob. @default the partial blob
   * of all fetches without an origin
   */
  origin?: string;
  /** Size of the whole blob in bytes. */
  size: number;
  folder: string;
  /** Free space of the disk in bytes. */
  freeBytes: number;
}

interface PartialBlobDeps {
  file: FileHandle;
  map: RangeMap;
  /** Moves the complete, synced file to the path of its digest. */
  adopt: (file: string) => Promise<void>;
}

/**
 * Number of ranges written between two saves of the map, which records the ranges on the disk. A restarted
 * process fetches at most this many ranges again. Each save also starts to flush the new ranges to the disk,
 * so that `finish` does not have to flush the whole blob.
 */
const RANGES_PER_SAVE = 32;
/** Only the owner may read partial blobs. The same holds for whole blobs. */
const FILE_MODE = 0o600;

/**
 * A blob whose ranges arrive in any order. The file `<folder>/<digest>` holds the bytes, and the file `<digest>.map`
 * the set of present ranges. With an origin, the names are `<digest>.<origin>` and `<digest>.<origin>.map`. The files
 * need not be durable, because the digest of the whole blob is verified at the end.
 */
export class PartialBlob {
  readonly size: number;
  readonly ranges: number;
  readonly #options: PartialBlobOptions;
  readonly #deps: PartialBlobDeps;
  readonly #path: string;
  readonly #writing = new Set<number>();
  #hash: OrderedHash | undefined;
  #resumed: boolean;
  #unsaved = 0;
  #flushing: Promise<void> | undefined;

  private constructor(options: PartialBlobOptions, deps: PartialBlobDeps) {
    this.size = options.size;
    this.ranges = Math.ceil(options.size / BLOB_RANGE_BYTES);
    this.#options = options;
    this.#deps = deps;
    this.#path = pathOf(options);
    this.#resumed = deps.map.count > 0;
  }

  /** @throws SwarmError STORE_FULL if the disk has less space than the missing ranges need; WRITE_FAILED */
  static async open(
    options: PartialBlobOptions,
    adopt: (file: string) => Promise<void>,
  ): Promise<PartialBlob> {
    const { digest, size, freeBytes } = options;
    const path = pathOf(options);
    const ranges = Math.ceil(size / BLOB_RANGE_BYTES);
    try {
      const map = new RangeMap(`${path}.map`, size, ranges);
      const isKnown = await map.load(ranges);
      const file = (isKnown ? await unlessLost(open(path, 'r+')) : null) ?? (await createFile(path));
      if ((await file.stat()).size !== size) map.clear();
      if (map.count === 0) await file.truncate(size);
      const partial = new PartialBlob(options, { file, map, adopt });
      const needed = size - partial.bytes;
      if (needed <= freeBytes) return partial;
      await partial.close();
      throw commonError(
        'STORE_FULL',
        `blob ${digest} needs ${needed} more bytes, but only ${freeBytes} are free`,
        { digest, needed, free: freeBytes },
      );
    } catch (cause) {
      throw writeError(cause, path);
    }
  }

  /** Whether some ranges come from an earlier attempt. It is not known which holder sent these ranges. */
  get resumed(): boolean {
    return this.#resumed;
  }

  /** Number of bytes that have arrived. */
  get bytes(): number {
    const lastIsHere = this.ranges > 0 && this.has(this.ranges - 1);
    const shortfall = lastIsHere ? this.ranges * BLOB_RANGE_BYTES - this.size : 0;
    return this.#deps.map.count * BLOB_RANGE_BYTES - shortfall;
  }

  get complete(): boolean {
    return this.#deps.map.count === this.ranges;
  }

  has(range: number): boolean {
    return this.#deps.map.has(range);
  }

  /** Returns offset and length of a range in bytes. */
  extent(range: number): { offset: number; length: number } {
    const offset = range * BLOB_RANGE_BYTES;
    return { offset, length: Math.min(BLOB_RANGE_BYTES, this.size - offset) };
  }

  /**
   * Writes one range. Until `release` is called, the caller must not reuse the memory of `bytes`. Returns false and
   * writes nothing if the range is present or being written, because a second holder's bytes must not overwrite bytes
   * that are already hashed.
   * @throws SwarmError STORE_FULL, WRITE_FAILED
   */
  async write(range: number, bytes: Uint8Array, release: Release): Promise<boolean> {
    if (this.has(range) || this.#writing.has(range)) {
      release(bytes);
      return false;
    }
    this.#writing.add(range);
    try {
      await writeAll(this.#deps.file, bytes, this.extent(range).offset);
    } catch (cause) {
      release(bytes);
      throw writeError(cause, this.#path);
    } finally {
      this.#writing.delete(range);
    }
    this.#deps.map.add(range);
    this.#running().add(range, bytes, release);
    this.#unsaved++;
    if (this.#unsaved >= RANGES_PER_SAVE) {
      this.#flush();
      await this.#save();
    }
    return true;
  }

  /**
   * Verifies the digest of the complete blob and moves the blob into the store.
   * @throws SwarmError BLOB_CORRUPT if the digest is wrong. All ranges are forgotten, and `write` may start again
   */
  async finish(): Promise<void> {
    const { digest } = this.#options;
    const found = await this.#running().digest();
    if (found !== digest) {
      await this.reset();
      const message = `the bytes that arrived for blob ${digest} have digest ${found}`;
      throw storageError('BLOB_CORRUPT', message, { digest, found });
    }
    this.#hash?.close();
    try {
      await this.#deps.file.sync();
      await this.#deps.file.close();
      await this.#deps.adopt(this.#path);
      await rm(`${this.#path}.map`, { force: true });
    } catch (cause) {
      throw writeError(cause, this.#path);
    }
  }

  /** Forgets every range. */
  async reset(): Promise<void> {
    this.#hash?.close();
    this.#hash = undefined;
    this.#deps.map.clear();
    this.#resumed = false;
    await this.#save();
  }

  /** Closes the files and keeps the ranges for a later attempt. */
  async close(): Promise<void> {
    this.#hash?.close();
    await this.#save().finally(() => this.#deps.file.close());
  }

  /** Saves the map of present ranges. */
  async #save(): Promise<void> {
    this.#unsaved = 0;
    try {
      await this.#deps.map.save();
    } catch (cause) {
      throw writeError(cause, this.#path);
    }
  }

  /** Starts a flush to disk without waiting for it. If errors persist, `finish` reports them. */
  #flush(): void {
    this.#flushing ??= this.#deps.file
      .datasync()
      .catch(() => {})
      .finally(() => {
        this.#flushing = undefined;
      });
  }

  #running(): OrderedHash {
    this.#hash ??= new OrderedHash(this, {
      has: (range) => this.has(range),
      read: async (range, buffer) => {
        const { offset, length } = this.extent(range);
        const { bytesRead } = await this.#deps.file.read(buffer, 0, length, offset);
        return buffer.subarray(0, bytesRead);
      },
    });
    return this.#hash;
  }
}

/** Creates an empty file. Deletes an existing file first, because this process may lack the right to write to it. */
async function createFile(path: string): Promise<FileHandle> {
  await rm(path, { force: true });
  return open(path, 'wx+', FILE_MODE);
}

function pathOf({ folder, digest, origin }: PartialBlobOptions): string {
  return join(folder, origin === undefined ? digest : `${digest}.${origin}`);
}

/** Deletes the partial files of a blob, from all origins. */
export async function removePartial(folder: string, digest: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.startsWith(digest)) await rm(join(folder, name), { force: true });
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, offset + written);
    written += bytesWritten;
  }
}
