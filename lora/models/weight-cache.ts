/** Files that are derived from a base once and kept: whole or not at all, also when several processes make one at once. */
import { type FileHandle, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from '../../common/durable.ts';

/** Entries start at page boundaries, so that an engine can map them without copying. */
const ALIGNMENT_BYTES = 4096;

/** Hands out places in a file, one after the other, each at a multiple of 4,096 bytes. */
export class Layout {
  #size = 0;

  /** Offset of the next `length` bytes. */
  place(length: number): number {
    const offset = this.#size;
    this.#size += Math.ceil(length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    return offset;
  }

  /** Of the file, in bytes. */
  get size(): number {
    return this.#size;
  }
}

/** Calls `write` for a file of `size` bytes, unless there is one at `path`. @throws as writeDurably */
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

/** All of an array's bytes, however many writes it takes. */
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

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch {
    return null;
  }
}
