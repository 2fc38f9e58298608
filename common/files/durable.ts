/**
 * Replaces files atomically: writes a file in the folder of the target, fsyncs it, renames it to the target, and fsyncs
 * the folder.
 */

import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { commonError } from '../common-errors.ts';
import { fromSystem, isSystemError, SwarmError } from '../errors.ts';

export interface DurableWriteOptions {
  /** Permission bits of the new file. @default 0o644 */
  mode?: number;
}

/** Number of writes so far. Together with the pid of the process, it makes the name of each partial file unique. */
let writes = 0;

/**
 * Replaces a file. After a crash at any moment `path` holds either the old bytes or the new ones. A write that fails
 * leaves no partial file. A killed process can leave a partial file. The next write to the same path removes it.
 *
 * @param content the bytes, or a function that writes them to an open file, which it may also read
 * @throws SwarmError STORE_FULL, WRITE_FAILED, or an error of `content`
 */
export async function writeDurably(
  path: string,
  content: Uint8Array | string | ((handle: FileHandle) => Promise<void>),
  { mode = 0o644 }: DurableWriteOptions = {},
): Promise<void> {
  const partial = `${path}.${process.pid}-${writes++}.partial`;
  try {
    await removeAbandoned(path);
    const handle = await open(partial, 'wx+', mode);
    try {
      if (typeof content === 'function') await content(handle);
      else await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameDurably(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    throw writeError(cause, path);
  }
}

/** Renames a file or folder whose content is already synced, and syncs the new name. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await renameWithRetry(from, to);
  await syncFolder(dirname(to));
}

/**
 * Error codes of a rename that fails on Windows because a process has a file open: the renamed file, the file that it
 * replaces, or a file in the renamed folder.
 */
const HELD_OPEN: readonly unknown[] = ['EACCES', 'EBUSY', 'EPERM'];
/**
 * Pauses between attempts to rename a file on Windows, in milliseconds. Together they take 1.9 s. A virus scanner
 * closes a new file sooner.
 */
const RENAME_PAUSES_MS = [10, 30, 60, 100, 200, 500, 1000];

/**
 * Renames a file or folder. On Windows a rename fails while a virus scanner, an indexer or a reader has the file open
 * (github.com/isaacs/node-graceful-fs/pull/119), so this function retries there for up to two seconds. On other systems
 * it tries once.
 */
export async function renameWithRetry(from: string, to: string): Promise<void> {
  for (const pause of process.platform === 'win32' ? RENAME_PAUSES_MS : []) {
    try {
      return await rename(from, to);
    } catch (error) {
      if (!HELD_OPEN.includes((error as NodeJS.ErrnoException).code)) throw error;
      await setTimeout(pause);
    }
  }
  await rename(from, to);
}

/**
 * Error codes of file systems that cannot sync a folder, such as some network shares. PostgreSQL ignores the same
 * codes.
 */
const NO_FOLDER_SYNC: readonly unknown[] = ['EBADF', 'EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

/**
 * Syncs a folder, so that the names of its files survive a crash. Does nothing on Windows, where the call does not
 * exist and is not needed. Ignores the error of a file system that does not support the call.
 */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (error) {
    if (!NO_FOLDER_SYNC.includes((error as NodeJS.ErrnoException).code)) throw error;
  } finally {
    await folder.close();
  }
}

/**
 * Converts a failed system call while writing `path` to a SwarmError: STORE_FULL for a full disk or an exceeded quota,
 * else WRITE_FAILED. Other errors are returned unchanged.
 */
export function writeError(cause: unknown, path: string): unknown {
  if (cause instanceof SwarmError || !(cause instanceof Error)) return cause;
  const { code, syscall } = cause as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return cause;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = `no space left to write ${path}`;
    return commonError('STORE_FULL', message, { path }, { cause });
  }
  const message = `could not write ${path}: ${cause.message}`;
  return commonError('WRITE_FAILED', message, { path, errno: code }, { cause, next: fromSystem(cause).next });
}

/** Removes partial files of `path` that were left behind by processes that have ended. */
async function removeAbandoned(path: string): Promise<void> {
  const folder = dirname(path);
  for (const name of await readdir(folder)) {
    const partial = parsePartialName(name);
    if (partial?.target === basename(path) && !isAlive(partial.pid)) {
      await rm(join(folder, name), { force: true });
    }
  }
}

/** Returns the target and the process id in the name of a partial file; null for other names. */
export function parsePartialName(name: string): { target: string; pid: number } | null {
  const found = /^(.+)\.(\d+)-\d+\.partial$/.exec(name);
  return found !== null && Number(found[2]) > 0 ? { target: found[1]!, pid: Number(found[2]) } : null;
}

/**
 * Returns whether a process with this id runs on this machine. Inside a container, sees only the container's processes.
 */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process runs under another user.
    return isSystemError(error, 'EPERM');
  }
}
