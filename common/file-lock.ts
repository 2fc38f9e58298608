import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { commonError } from './common-errors.ts';

const LOCK_FILE = 'lock';
/** Names the holder for people; the lock itself does not depend on it. */
const HOLDER_FILE = 'lock.pid';
/** A database that nobody refers to is closed by the garbage collector, and its lock is gone. */
const holding = new Set<DatabaseSync>();

/**
 * Makes this process the only one that works in `home` (created when absent, mode 0700).
 *
 * The lock is SQLite's exclusive file lock: the kernel drops it when its holder dies in whatever way, so that no
 * stale lock can be left, and a process that has since got the holder's pid is not mistaken for it.
 * @returns a function that gives the lock back; the process's end does too
 * @throws SwarmError HOME_LOCKED with the pid of the process that holds it
 */
export function lockHome(home: string): () => void {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const holder = join(home, HOLDER_FILE);
  const lock = new DatabaseSync(join(home, LOCK_FILE), { timeout: 0 });
  try {
    // Without a journal there is no second file that a killed holder could leave behind.
    lock.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE');
  } catch (cause) {
    lock.close();
    if (!isBusy(cause)) throw cause;
    const pid = holderPid(holder);
    throw commonError(
      'HOME_LOCKED',
      `${home} is in use by process ${pid ?? '(unknown)'}; stop it, or give this one another --home`,
      { home, pid },
      { cause },
    );
  }
  writeFileSync(holder, `${process.pid}\n`, { mode: 0o600 });
  holding.add(lock);
  return () => {
    if (!holding.delete(lock)) return;
    rmSync(holder, { force: true });
    lock.close();
  };
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
