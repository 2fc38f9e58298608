import { createHash } from 'node:crypto';
import { access, constants, type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError } from '../common/errors.ts';
import { restrictToOwner } from '../common/files/file-system.ts';
import { storageError } from './errors.ts';

/** Bytes per read while a file is imported. Larger reads need more memory, and smaller reads more system calls. */
const IMPORT_CHUNK_BYTES = 1024 * 1024;

export async function readFully(
  file: FileHandle,
  offset: number,
  targets: readonly Uint8Array[],
): Promise<void> {
  const wanted = targets.reduce((sum, target) => sum + target.length, 0);
  const { bytesRead } = await whole(() => file.readv(targets, offset));
  // One call reads all bytes of a regular file, unless the file was truncated after it was opened.
  if (bytesRead !== wanted) {
    throw storageError(
      'BLOB_TRUNCATED',
      `a blob on disk is ${wanted - bytesRead} bytes shorter than when it was opened`,
      { offset, wanted, bytesRead },
    );
  }
}

export async function hashFile(
  file: FileHandle,
  signal: AbortSignal,
  onChunk?: (chunk: Uint8Array) => Promise<void>,
): Promise<{ digest: string; size: number }> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(IMPORT_CHUNK_BYTES);
  let size = 0;
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await whole(() => file.read(buffer, 0, buffer.length, size));
    if (bytesRead === 0) return { digest: hash.digest('hex'), size };
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    await onChunk?.(chunk);
    size += bytesRead;
  }
}

/** Opens a blob to read it; returns null if there is none that this process can open. */
export async function openBlob(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return null;
    if (!isRefused(error)) throw error;
    return (await canRead(path)) ? open(path, 'r') : null;
  }
}

/** Returns whether this process can open a blob. Gives its owner the right to read it if the owner has lost this right. */
export async function canRead(path: string): Promise<boolean> {
  for (const repair of [null, restrictToOwner]) {
    try {
      await repair?.(path);
      await access(path, constants.R_OK);
      return true;
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      if (!isRefused(error)) throw error;
    }
  }
  return false;
}

/** Reads from a blob. @throws SwarmError BLOB_TRUNCATED if the disk cannot read a part of the file */
async function whole<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (!isSystemError(cause, 'EIO')) throw cause;
    throw storageError('BLOB_TRUNCATED', 'the disk cannot read a part of a blob', {}, { cause });
  }
}

function isRefused(error: unknown): boolean {
  return isSystemError(error, 'EACCES', 'EPERM');
}

/** Deletes the files of a folder that were last changed before `time`, in milliseconds since 1970. */
export async function removeOlder(folder: string, time: number): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    // Skip a file that another process has moved or deleted since the folder was read.
    const entry = await stat(path).catch(() => null);
    if (entry !== null && entry.mtimeMs < time) await rm(path, { force: true });
  }
}
