/** Files that are derived from a base once and kept: whole or not at all, also when several processes make one at once. */
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Entries start at page boundaries, so that an engine can map them without copying. */
const ALIGNMENT_BYTES = 4096;

/** Tells apart the unfinished files of one process. */
let conversions = 0;

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

/** Calls `write` for a file of `size` bytes, unless there is one at `path`. */
export async function writeOnce(
  path: string,
  size: number,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if ((await sizeOf(path)) === size) return;
  await removeAbandoned(path);
  const partial = `${path}.${process.pid}-${conversions++}.partial`;
  const handle = await open(partial, 'w');
  try {
    try {
      await handle.truncate(size);
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** All of an array's bytes, however many writes it takes. */
export async function writeAll(
  handle: FileHandle,
  { buffer, byteOffset, byteLength }: Uint8Array | Float32Array,
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

/** A process killed while converting leaves gigabytes behind; its number in the name tells that it is gone. */
async function removeAbandoned(path: string): Promise<void> {
  const pattern = /\.(\d+)-\d+\.partial$/;
  const folder = dirname(path);
  for (const name of await readdir(folder)) {
    const pid = Number(pattern.exec(name)?.[1]);
    if (name.startsWith(basename(path)) && pid > 0 && !isAlive(pid))
      await rm(join(folder, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, but belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
