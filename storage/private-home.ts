import type { Dirent } from 'node:fs';
import { chmod, lstat, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';

/** Permissions of the group and of all other users. */
const RIGHTS_OF_OTHERS = 0o077;
/** Number of entries of a folder that are checked at the same time. */
const AT_ONCE = 32;

/** Counts of the entries of a home whose permissions were too wide. */
interface Tightened {
  /** Number of entries whose permissions were narrowed. */
  changed: number;
  /** Number of entries whose permissions could not be changed, for example because another user owns them. */
  failed: number;
  /** Path of the first entry whose permissions could not be changed; null if there is none. */
  example: string | null;
}

/**
 * Removes the permissions of all other users from a home and from everything in it, so that only its owner can read
 * keys, tokens, databases, data and logs. A home that was created by hand, copied or restored from a backup often gives
 * such permissions. The permissions of the owner stay as they are, and links are not followed. Logs how many entries it
 * changed. Does nothing on Windows, where files inherit the permissions of the user's folder, which is private.
 */
export async function makeHomePrivate(home: string, deps: { log: Logger }): Promise<void> {
  if (process.platform === 'win32') return;
  const done: Tightened = { changed: 0, failed: 0, example: null };
  // Use `stat` instead of `lstat`. It follows the home itself if the home is a link, because the owner may have made
  // that link.
  await tighten(home, (await stat(home)).mode, done);
  await tightenFolder(home, done);
  const { changed, failed, example } = done;
  if (changed > 0) deps.log.warn({ home, entries: changed }, 'home-made-private');
  if (failed > 0) deps.log.warn({ home, entries: failed, example }, 'home-not-private');
}

async function tightenFolder(folder: string, done: Tightened): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (!isSystemError(error, 'ENOENT')) fail(folder, done);
    return [];
  });
  for (let at = 0; at < entries.length; at += AT_ONCE) {
    await Promise.all(
      entries.slice(at, at + AT_ONCE).map((entry) => tightenEntry(join(folder, entry.name), entry, done)),
    );
  }
}

async function tightenEntry(path: string, entry: Dirent, done: Tightened): Promise<void> {
  if (entry.isSymbolicLink()) return;
  try {
    await tighten(path, (await lstat(path)).mode, done);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) fail(path, done);
    return;
  }
  if (entry.isDirectory()) await tightenFolder(path, done);
}

async function tighten(path: string, mode: number, done: Tightened): Promise<void> {
  if ((mode & RIGHTS_OF_OTHERS) === 0) return;
  try {
    await chmod(path, mode & 0o777 & ~RIGHTS_OF_OTHERS);
    // Some file systems accept the call and keep the permissions, so the permissions are read again.
    if (((await stat(path)).mode & RIGHTS_OF_OTHERS) !== 0) fail(path, done);
    else done.changed++;
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) fail(path, done);
  }
}

function fail(path: string, done: Tightened): void {
  done.failed++;
  done.example ??= path;
}
