/** Files that appear whole and stay: written beside their place, synced, renamed into it, and the name synced too. */
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SwarmError } from '../../protocol/errors.ts';

/** Tells apart the unfinished files of one process; its number in their names tells whose they are. */
let writes = 0;

/**
 * Calls `write` for a file that takes the place of `path` when it returns: after a crash at any moment the old bytes are
 * there or the new ones. Nothing is left of it when this rejects; what a killed process left is removed by the next one
 * that writes the same file.
 *
 * @throws SwarmError STORE_FULL, WRITE_FAILED; what `write` throws itself
 */
export async function writeDurably(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const partial = `${path}.${process.pid}-${writes++}.partial`;
  try {
    await removeAbandoned(path);
    const handle = await open(partial, 'w');
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await durableRename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    throw asWriteError(cause, path);
  }
}

/** Renames a file or folder whose content is synced, and makes its new name survive a crash. */
export async function durableRename(from: string, to: string): Promise<void> {
  await rename(from, to);
  // Windows has no such call and no such need.
  if (process.platform === 'win32') return;
  const folder = await open(dirname(to), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Beginnings of `path` whose process is gone: whoever writes it again may need their space. */
async function removeAbandoned(path: string): Promise<void> {
  const folder = dirname(path);
  for (const name of await readdir(folder)) {
    const partial = partialFile(name);
    if (partial?.of === basename(path) && !isAlive(partial.pid))
      await rm(join(folder, name), { force: true });
  }
}

/** Of the name of an unfinished file: that of the file it was to become, and whose it is. null for other names. */
export function partialFile(name: string): { of: string; pid: number } | null {
  const found = /^(.+)\.(\d+)-\d+\.partial$/.exec(name);
  return found !== null && Number(found[2]) > 0 ? { of: found[1]!, pid: Number(found[2]) } : null;
}

/** Whether there is a process of that number on this machine: in a container, among its own. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, but belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** What the system said about writing `path`, in words that say what to do; other errors as they are. */
function asWriteError(cause: unknown, path: string): unknown {
  if (cause instanceof SwarmError || !(cause instanceof Error)) return cause;
  const { code, syscall } = cause as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = `no space left to write ${path}; free some and try again`;
    return new SwarmError('STORE_FULL', message, { path }, { cause });
  }
  // Without a call of the system it is no file that failed: an abort, say.
  if (code === undefined || syscall === undefined) return cause;
  return new SwarmError(
    'WRITE_FAILED',
    `could not write ${path}: ${cause.message}`,
    { path, errno: code },
    { cause },
  );
}
