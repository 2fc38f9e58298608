import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SwarmError } from '../protocol/errors.ts';

export interface DurableWriteOptions {
  /** @default 0o644 */
  mode?: number;
}

/**
 * Replaces a file so that after a crash at any moment either the old bytes or the new ones are there: write to a
 * file beside it, fsync, rename over it, fsync the folder.
 * @throws SwarmError STORE_FULL, WRITE_FAILED
 */
export async function durableWrite(
  path: string,
  bytes: Uint8Array | string,
  { mode = 0o644 }: DurableWriteOptions = {},
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await durableRename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw writeError(cause, path);
  }
}

/** Renames a file whose bytes are already synced, and makes the new name survive a crash. */
export async function durableRename(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
}

/** Makes the names in a folder survive a crash. Windows has no such call and no such need. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle: FileHandle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A full disk and an exceeded quota are one error to the callers, whatever was being written. */
export function writeError(cause: unknown, path: string): SwarmError {
  if (cause instanceof SwarmError) return cause;
  const errno = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new SwarmError(
      'STORE_FULL',
      `no space left to write ${path}; free some and try again`,
      { path },
      { cause },
    );
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new SwarmError('WRITE_FAILED', `could not write ${path}: ${reason}`, { path, errno }, { cause });
}
