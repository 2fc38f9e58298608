/**
 * Writes files derived from a base. Each file appears complete or not at all, even if several processes write it at
 * once.
 */
import { createHash } from 'node:crypto';
import { access, constants, type FileHandle, mkdir, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isSystemError } from '../../../common/errors.ts';
import { writeDurably } from '../../../common/files/durable.ts';

/** Entries start at page boundaries, so that an engine can memory-map them without copying. */
const ALIGNMENT_BYTES = 4096;
/** Number of bytes of the SHA-256 at the end of a checked file. */
export const DIGEST_BYTES = 32;
/** Number of bytes that are hashed at a time. */
const READ_BYTES = 2 ** 20;

/** Assigns consecutive offsets in a file, each a multiple of 4,096 bytes. */
export class Layout {
  #size = 0;

  /** Reserves `length` bytes and returns their offset. */
  place(length: number): number {
    const offset = this.#size;
    this.#size += Math.ceil(length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    return offset;
  }

  /** Size of the file in bytes. */
  get size(): number {
    return this.#size;
  }
}

/**
 * Calls `write` to fill a file of `size` bytes, unless `path` already has that size and can be read.
 * @throws the errors of writeDurably
 */
export async function writeOnce(
  path: string,
  size: number,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if ((await sizeOf(path)) === size) return;
  await writeDurably(path, async (handle) => {
    await handle.truncate(size);
    await write(handle);
  });
}

/**
 * Calls `write` to fill a file of `size` bytes, like `writeOnce`. The file ends with a digest of these bytes. Each call reads
 * the file, and writes it again if it is damaged.
 * @param options `onDamaged` is called with the path of a damaged file. @default ignores it
 * @throws the errors of writeDurably, and the signal's reason
 */
export async function writeChecked(
  path: string,
  size: number,
  write: (handle: FileHandle) => Promise<void>,
  { signal, onDamaged = () => {} }: { signal?: AbortSignal; onDamaged?: (path: string) => void } = {},
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if ((await sizeOf(path)) === size + DIGEST_BYTES) {
    if (await isWhole(path, size, signal)) return;
    onDamaged(path);
  }
  await writeDurably(path, async (handle) => {
    await handle.truncate(size);
    await write(handle);
    await writeAll(handle, await digestOf(handle, size, signal), size);
  });
}

/** Returns whether a file ends with the digest of its first `size` bytes. */
async function isWhole(path: string, size: number, signal?: AbortSignal): Promise<boolean> {
  const handle = await open(path, 'r');
  try {
    const written = Buffer.alloc(DIGEST_BYTES);
    await handle.read(written, 0, DIGEST_BYTES, size);
    return written.equals(await digestOf(handle, size, signal));
  } catch (error) {
    // A disk that cannot read a part of a file reports EIO.
    if (isSystemError(error, 'EIO')) return false;
    throw error;
  } finally {
    await handle.close();
  }
}

/** Returns the SHA-256 of the first `size` bytes of an open file. */
async function digestOf(handle: FileHandle, size: number, signal?: AbortSignal): Promise<Uint8Array> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, size));
  for (let at = 0; at < size; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, size - at), at);
    // The file became shorter, so the digest cannot match.
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest();
}

/** Writes all bytes of an array, in several writes if the system takes only a part. */
export async function writeAll(
  handle: FileHandle,
  { buffer, byteOffset, byteLength }: Uint8Array | Int8Array | Float32Array,
  position: number,
): Promise<void> {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  for (let done = 0; done < byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Returns the size of a file; null if this process cannot read it. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    await access(path, constants.R_OK);
    return (await stat(path)).size;
  } catch {
    // The file is missing or may not be read, so it is written again.
    return null;
  }
}
