/**
 * Writes files derived from a base. Each file appears complete or not at all, even if several processes write it at
 * once.
 */
import { access, constants, type FileHandle, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from '../../../common/durable.ts';

/** Entries start at page boundaries, so that an engine can memory-map them without copying. */
const ALIGNMENT_BYTES = 4096;

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
