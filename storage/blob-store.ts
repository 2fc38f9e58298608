import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../common/common-errors.ts';
import { isSwarmError, isSystemError, type SwarmError } from '../common/errors.ts';
import { renameDurably, syncFolder, writeError } from '../common/files/durable.ts';
import { freeBytesOf } from '../common/files/file-system.ts';
import type { Clock } from '../common/time/clock.ts';
import { sha256 } from '../protocol/cbor.ts';
import { digestSchema } from '../protocol/ids.ts';
import { canRead, hashFile, openBlob, removeOlder } from './blob-files.ts';
import { type BlobReader, BlobReaders } from './blob-readers.ts';
import type { FileBlobs } from './blobs.ts';
import { storageError } from './errors.ts';
import { PartialBlob, removePartial } from './partial-blob.ts';

export interface FileBlobStoreOptions {
  /** The home of the daemon; blobs are in `<home>/blobs/<first two digits>/<digest>`. */
  home: string;
  /**
   * Whether several processes use the store at the same time. If so, opening the store keeps the half-written
   * files of the last day, because another process may be writing them. @default false
   */
  shared?: boolean;
  /** Free space in bytes that new blobs leave on the disk. @default 0 */
  floorBytes?: number;
}

export interface FileBlobStoreDeps {
  clock: Clock;
  /** Returns the free space of a folder's disk in bytes. @default freeBytesOf */
  freeBytes?: (folder: string) => Promise<number>;
}

/** A blob store that can also receive and read a blob range by range, for the blob protocol. */
export interface ResumableBlobs extends FileBlobs {
  /** Opens a blob to read many ranges from it; null if the blob is absent. The caller closes the reader. */
  reader(digest: string): Promise<BlobReader | null>;
  /**
   * Opens the partial blob of an earlier attempt, or an empty one. Attempts with different origins share no bytes.
   * @throws SwarmError STORE_FULL, HOME_GONE
   */
  resume(ref: { digest: string; size: number; origin?: string }): Promise<PartialBlob>;
}

/** Only the owner may read blobs, because the coordinator decides which peers get a blob. */
const FOLDER_MODE = 0o700;

const FILE_MODE = 0o600;

/** Time in milliseconds without a write after which a shared store deletes an unfinished file. */
const SHARED_KEPT_MS = 24 * 60 * 60 * 1000;

/** Time in milliseconds without a write after which the store deletes a partial blob. */
const PARTIAL_KEPT_MS = 7 * 24 * 60 * 60 * 1000;

/** Content-addressed files. A blob is either whole and durable under its digest, or absent. */
export class FileBlobStore implements ResumableBlobs {
  readonly #root: string;
  readonly #incoming: string;
  readonly #partial: string;
  readonly #readers = new BlobReaders();

  readonly #floorBytes: number;
  readonly #freeBytes: (folder: string) => Promise<number>;

  private constructor(options: FileBlobStoreOptions, deps: FileBlobStoreDeps) {
    this.#floorBytes = options.floorBytes ?? 0;
    this.#freeBytes = deps.freeBytes ?? freeBytesOf;
    this.#root = join(options.home, 'blobs');
    this.#incoming = join(this.#root, 'incoming');
    this.#partial = join(this.#root, 'partial');
  }

  /** Creates the folders. Deletes half-written files of a killed process and old partial blobs. */
  static async open(options: FileBlobStoreOptions, deps: FileBlobStoreDeps): Promise<FileBlobStore> {
    const store = new FileBlobStore(options, deps);
    if (!options.shared) await rm(store.#incoming, { recursive: true, force: true });
    await mkdir(store.#incoming, { recursive: true, mode: FOLDER_MODE });
    await mkdir(store.#partial, { recursive: true, mode: FOLDER_MODE });
    if (options.shared) await removeOlder(store.#incoming, deps.clock.now() - SHARED_KEPT_MS);
    await removeOlder(store.#partial, deps.clock.now() - PARTIAL_KEPT_MS);
    return store;
  }

  /** Yields every whole blob in any order, with its size in bytes and the time of its last change. */
  async *list(): AsyncGenerator<{ digest: string; size: number; modifiedAt: number }, void, undefined> {
    for (const folder of await readdir(this.#root)) {
      if (!/^[0-9a-f]{2}$/.test(folder)) continue;
      for (const digest of await readdir(join(this.#root, folder))) {
        if (!digestSchema.safeParse(digest).success) continue;
        // Skip a blob that another process has deleted since the folder was read.
        const entry = await stat(this.path(digest)).catch(() => null);
        if (entry !== null) yield { digest, size: entry.size, modifiedAt: entry.mtimeMs };
      }
    }
  }

  /** @throws SwarmError BLOB_DIGEST */
  path(digest: string): string {
    if (!digestSchema.safeParse(digest).success) {
      throw storageError(
        'BLOB_DIGEST',
        `"${digest.slice(0, 80)}" is not a SHA-256 digest in lower-case hex`,
        { digest: digest.slice(0, 80) },
      );
    }
    return join(this.#root, digest.slice(0, 2), digest);
  }

  async has(digest: string): Promise<boolean> {
    return (await this.size(digest)) !== null;
  }

  async size(digest: string): Promise<number | null> {
    try {
      const { size } = await stat(this.path(digest));
      // A file that this process may not open counts as absent, so that it is fetched again.
      return (await canRead(this.path(digest))) ? size : null;
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return null;
      throw error;
    }
  }

  async put(bytes: Uint8Array, digest: string = sha256(bytes)): Promise<string> {
    if (await this.has(digest)) return digest;
    await this.#write(digest, (file) => file.writeFile(bytes));
    return digest;
  }

  /**
   * Copies a file into the store. If the store already has the blob, this method only computes the file's digest.
   * @throws SwarmError FILE_CHANGED if another process changes the file meanwhile, STORE_FULL, WRITE_FAILED
   */
  async importFile(
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<{ digest: string; size: number }> {
    const source = await open(path, 'r');
    try {
      const { digest, size } = await hashFile(source, signal);
      if (await this.has(digest)) return { digest, size };
      await this.#write(digest, async (file) => {
        const copied = await hashFile(source, signal, (chunk) => file.writeFile(chunk));
        if (copied.digest !== digest) {
          throw storageError('FILE_CHANGED', `${path} changed while it was being read`, { path });
        }
      });
      return { digest, size };
    } finally {
      await source.close();
    }
  }

  async get(digest: string, { maxBytes }: { maxBytes: number }): Promise<Uint8Array> {
    const size = await this.size(digest);
    if (size === null) throw this.#missing(digest);
    if (size > maxBytes) {
      throw storageError(
        'BLOB_SIZE',
        `blob ${digest} has ${size} bytes, more than the expected ${maxBytes}`,
        { digest, size, maxBytes },
      );
    }
    const bytes = await this.read(digest, 0, size);
    if (sha256(bytes) !== digest) {
      // The blob is damaged on disk. Delete it, so that it can be fetched again.
      await this.delete(digest);
      throw storageError(
        'BLOB_CORRUPT',
        `blob ${digest} was damaged on disk and has been deleted`,
        { digest },
        { next: 'fetch the blob again' },
      );
    }
    return bytes;
  }

  async check(
    digest: string,
    { signal, pause }: { signal: AbortSignal; pause?: () => Promise<void> },
  ): Promise<'whole' | 'missing' | 'damaged'> {
    const file = await openBlob(this.path(digest));
    if (file === null) return 'missing';
    try {
      const found = await hashFile(file, signal, pause);
      return found.digest === digest ? 'whole' : 'damaged';
    } catch (error) {
      if (isSwarmError(error, 'BLOB_TRUNCATED')) return 'damaged';
      throw error;
    } finally {
      await file.close();
    }
  }

  async read(digest: string, offset: number, length: number): Promise<Uint8Array> {
    const reader = await this.reader(digest);
    if (reader === null) throw this.#missing(digest);
    try {
      // Allocate no Buffer here. The `buffer` of a small Buffer is a pool that also holds other bytes, and `slice` of a
      // Buffer does not copy.
      const bytes = new Uint8Array(Math.max(0, Math.min(length, reader.size - offset)));
      await reader.readInto(offset, [bytes]);
      return bytes;
    } catch (cause) {
      if (!isSwarmError(cause, 'BLOB_TRUNCATED')) throw cause;
      // A repair needs the digest, which the file handle does not know.
      throw storageError('BLOB_TRUNCATED', cause.message, { ...cause.values, digest }, { cause });
    } finally {
      await reader.close();
    }
  }

  reader(digest: string): Promise<BlobReader | null> {
    return this.#readers.open(this.path(digest));
  }

  async delete(digest: string): Promise<void> {
    await rm(this.path(digest), { force: true });
    this.#readers.replaced(this.path(digest));
    await this.deletePartial(digest);
  }

  async deletePartial(digest: string): Promise<void> {
    await this.#inHome(() => removePartial(this.#partial, digest));
  }

  async resume(ref: { digest: string; size: number; origin?: string }): Promise<PartialBlob> {
    const target = this.path(ref.digest);
    const freeBytes = (await this.#inHome(() => this.#freeBytes(this.#partial))) - this.#floorBytes;
    return PartialBlob.open({ ...ref, folder: this.#partial, freeBytes }, (file) =>
      this.#adopt(file, target),
    );
  }

  /** @throws SwarmError HOME_GONE if the task fails because the folder of the blobs is missing */
  async #inHome<T>(task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (cause) {
      if (!isSystemError(cause, 'ENOENT') || existsSync(this.#root)) throw cause;
      const folder = this.#root;
      throw storageError('HOME_GONE', `${folder} was moved or deleted`, { folder }, { cause });
    }
  }

  async #write(digest: string, fill: (file: FileHandle) => Promise<unknown>): Promise<void> {
    const target = this.path(digest);
    const temporary = join(this.#incoming, `${digest}.${randomBytes(6).toString('hex')}`);
    await this.#requireFloor(target);
    try {
      const file = await open(temporary, 'wx', FILE_MODE);
      try {
        await fill(file);
        await file.sync();
      } finally {
        await file.close();
      }
      await this.#adopt(temporary, target);
    } catch (cause) {
      await rm(temporary, { force: true });
      throw writeError(cause, target);
    }
  }

  /** @throws SwarmError STORE_FULL if the disk has less free space than blobs must leave */
  async #requireFloor(path: string): Promise<void> {
    if (this.#floorBytes === 0) return;
    const free = await this.#freeBytes(this.#incoming);
    if (free >= this.#floorBytes) return;
    throw commonError(
      'STORE_FULL',
      `no space left to write ${path}: ${free} bytes are free, but ${this.#floorBytes} bytes are reserved for the database`,
      { path, free, floor: this.#floorBytes },
    );
  }

  /** Moves a synced file to the path of its digest. */
  async #adopt(file: string, target: string): Promise<void> {
    const created = await mkdir(join(target, '..'), { recursive: true, mode: FOLDER_MODE });
    await renameDurably(file, target);
    this.#readers.replaced(target);
    if (created !== undefined) await syncFolder(this.#root);
  }

  #missing(digest: string): SwarmError {
    return storageError('BLOB_MISSING', `blob ${digest} is not in the store at ${this.#root}`, { digest });
  }
}
