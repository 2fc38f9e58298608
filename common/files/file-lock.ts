import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commonError } from '../common-errors.ts';
import { isSwarmError, messageOf } from '../errors.ts';
import { DatabaseSync } from '../sqlite.ts';

const LOCK_FILE = 'lock';
/** File with the pid of the lock's holder. Only an error message uses the pid; the lock does not depend on it. */
const HOLDER_FILE = 'lock.pid';
/**
 * The locks that this process holds. Without a reference to the database object of a lock, the garbage collector would
 * close the database. This would release the lock.
 */
const held = new Set<DatabaseSync>();

/**
 * Makes this process the only one that works in a folder (created if absent, mode 0700).
 *
 * The lock is SQLite's exclusive file lock. The kernel releases it when its holder dies, even by SIGKILL. So a dead
 * process leaves no stale lock, and a later process with the same pid is not mistaken for the holder.
 * @returns a function that releases the lock; the end of the process releases it too
 * @throws SwarmError FOLDER_LOCKED with the pid of the process that holds it; LOCK_UNUSABLE if the file of the lock is
 *   damaged, or may not be opened
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const holder = join(folder, HOLDER_FILE);
  const path = join(folder, LOCK_FILE);
  let lock: DatabaseSync | null = null;
  try {
    lock = new DatabaseSync(path, { timeout: 0 });
    // Without a journal there is no second file that a killed holder could leave behind.
    lock.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE');
  } catch (cause) {
    lock?.close();
    if (!isBusy(cause)) {
      throw commonError(
        'LOCK_UNUSABLE',
        `${path} cannot be locked: ${messageOf(cause)}`,
        { path },
        { cause },
      );
    }
    const pid = holderPid(holder);
    const message = `${folder} is in use by process ${pid ?? '(unknown)'}`;
    throw commonError('FOLDER_LOCKED', message, { folder, pid }, { cause });
  }
  writeFileSync(holder, `${process.pid}\n`, { mode: 0o600 });
  held.add(lock);
  return () => {
    if (!held.delete(lock)) return;
    rmSync(holder, { force: true });
    lock.close();
  };
}

/**
 * Locks the home of a daemon, as {@link lockFolder} does.
 * @throws SwarmError HOME_LOCKED with the pid of the process that holds it; LOCK_UNUSABLE
 */
export function lockHome(home: string): () => void {
  try {
    return lockFolder(home);
  } catch (cause) {
    if (!isSwarmError(cause, 'FOLDER_LOCKED')) throw cause;
    throw commonError('HOME_LOCKED', cause.message, { home, pid: cause.values.pid }, { cause });
  }
}

function isBusy(error: unknown): boolean {
  const SQLITE_BUSY = 5;
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}

function holderPid(path: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return Number.isSafeInteger(pid) ? pid : null;
  } catch {
    return null;
  }
}
