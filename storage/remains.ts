import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError } from '../common/errors.ts';
import { renameWithRetry } from '../common/files/durable.ts';
import type { Logger } from '../common/logger.ts';
import { countOf } from '../common/text.ts';
import type { Role } from './daemon-home.ts';
import { storageError } from './errors.ts';

/** Folders of a home whose files have records in the database. */
const FOLDERS = ['blobs', 'checkpoints'] as const;

/** Advice for a home whose database is missing, or older than the other files of the home. */
export const RESTORE_OR_START_ANEW =
  'restore the whole home from its newest backup, or start with "--start-anew", which moves these files aside';

interface Files {
  readonly blobs: number;
  readonly checkpoints: number;
  /** Names of the jobs that have checkpoints. */
  readonly jobs: readonly string[];
}

/**
 * Checks that a home with blobs or checkpoints also has its database. Without this check, a daemon whose database was
 * deleted would start with an empty database and have no jobs. An empty database file counts as missing.
 * @param options.startAnew moves the files into a folder `set-aside-TIME` of the home, instead of refusing
 * @throws SwarmError STORE_MISSING
 */
export async function requireDatabase(
  home: string,
  { role, startAnew, now }: { role: Role; startAnew: boolean; now: number },
  { log }: { log: Logger },
): Promise<void> {
  const database = join(home, `${role}.sqlite`);
  const size = await stat(database).then(
    (entry) => entry.size,
    () => 0,
  );
  if (size > 0) return;
  const found = await filesOf(home);
  if (found.blobs === 0 && found.checkpoints === 0) return;
  const files = describe(found);
  if (!startAnew) {
    throw storageError(
      'STORE_MISSING',
      `${home} has ${files}, but its database ${role}.sqlite is missing or empty`,
      { home, database, ...found },
      { next: RESTORE_OR_START_ANEW },
    );
  }
  const folder = await setAside(home, FOLDERS, now);
  log.warn({ home, folder, ...found, reason: `${folder} has ${files}` }, 'files-set-aside');
}

/**
 * Checks that the home of a coordinator with a database also has its key. Without this check, a coordinator whose key was
 * deleted would create another one, and its nodes would never find it.
 * @throws SwarmError IDENTITY_MISSING
 */
export async function requireIdentity(home: string): Promise<void> {
  const exists = async (name: string): Promise<boolean> =>
    stat(join(home, name)).then(
      () => true,
      () => false,
    );
  if ((await exists('identity')) || !(await exists('coordinator.sqlite'))) return;
  const identity = join(home, 'identity');
  throw storageError('IDENTITY_MISSING', `${home} has a database, but not the key of the coordinator`, {
    identity,
  });
}

/**
 * Moves entries of a home into its folder `set-aside-TIME`, where daemons ignore them.
 * @returns the path of the folder
 */
export async function setAside(home: string, entries: readonly string[], now: number): Promise<string> {
  const folder = join(home, `set-aside-${new Date(now).toISOString().replaceAll(':', '-')}`);
  for (const entry of entries) {
    const target = join(folder, entry);
    await mkdir(join(target, '..'), { recursive: true });
    await renameWithRetry(join(home, entry), target).catch((error: unknown) => {
      if (!isSystemError(error, 'ENOENT')) throw error;
    });
  }
  return folder;
}

async function filesOf(home: string): Promise<Files> {
  let blobs = 0;
  for (const folder of await entriesOf(join(home, 'blobs'))) {
    if (/^[0-9a-f]{2}$/.test(folder)) blobs += (await entriesOf(join(home, 'blobs', folder))).length;
  }
  let checkpoints = 0;
  const jobs: string[] = [];
  for (const job of await entriesOf(join(home, 'checkpoints'))) {
    const rounds = (await entriesOf(join(home, 'checkpoints', job))).filter((name) => /^\d+$/.test(name));
    checkpoints += rounds.length;
    if (rounds.length > 0) jobs.push(job);
  }
  return { blobs, checkpoints, jobs };
}

function describe({ blobs, checkpoints, jobs }: Files): string {
  const stored = countOf(blobs, 'blob');
  if (checkpoints === 0) return stored;
  return `${countOf(checkpoints, 'checkpoint')} of ${countOf(jobs.length, 'job')} (${jobs.join(', ')}) and ${stored}`;
}

/** Returns the names in a folder; an empty list if the folder does not exist. */
async function entriesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  });
}
