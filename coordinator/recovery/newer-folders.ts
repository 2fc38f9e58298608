import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import { RESTORE_OR_START_ANEW, setAside } from '../../storage/remains.ts';
import { coordinatorError } from '../errors.ts';
import { MANIFEST_FILE, SIGNED_FILE } from '../record/checkpoint-folders.ts';
import type { Store } from '../store/store.ts';

/** A job that is missing from the database, or whose newest checkpoint folder is newer than the database. */
interface NewerFolder {
  /** Name of the job. */
  readonly job: string;
  readonly round: number;
  /** Newest round with a checkpoint in the database; null if the database does not have the job. */
  readonly known: number | null;
}

/**
 * Checks that the database is as new as the checkpoint folders in the home. A database that was restored alone from an
 * old backup has fewer checkpoints than the folders. With such a database, the coordinator would make a second
 * checkpoint for rounds that already have one.
 *
 * A database can also lack a whole job, for example if one bit of its write-ahead log was flipped before the
 * log was copied into the database. SQLite ignores such a log from the damaged place on, and gives no error.
 * To detect such a loss, the folder of each recorded job contains the job's manifest.
 *
 * One folder of a job may be newer than the database, if its parent is the newest checkpoint of the database.
 * A coordinator leaves such a folder when it is killed after it wrote the folder, and before it commits its
 * transaction.
 * @param options.startAnew moves the newer folders into a folder `set-aside-TIME` of the home, instead of
 *   refusing
 * @throws SwarmError STORE_ROLLED_BACK
 */
export async function requireNewestStore(
  home: string,
  { self, startAnew, now }: { self: string; startAnew: boolean; now: number },
  { store, log }: { store: Store; log: Logger },
): Promise<void> {
  const newer = await newerFolders(join(home, 'checkpoints'), self, { store, log });
  if (newer.length === 0) return;
  if (!startAnew) {
    const list = newer.map(({ job, round, known }) =>
      known === null
        ? `job ${job} has a checkpoint of round ${round}, but is not in the database`
        : `job ${job} has a checkpoint of round ${round}, but the newest one in the database is of round ${known}`,
    );
    throw coordinatorError(
      'STORE_ROLLED_BACK',
      `the database in ${home} is older than the folders of its checkpoints: ${list.join('; ')}`,
      { home, newer },
      { next: RESTORE_OR_START_ANEW },
    );
  }
  const entries: string[] = [];
  for (const { job, known } of newer) {
    if (known === null) entries.push(join('checkpoints', job, MANIFEST_FILE));
    for (const name of await roundsOf(join(home, 'checkpoints', job))) {
      if (Number(name) > (known ?? -1)) entries.push(join('checkpoints', job, name));
    }
  }
  const folder = await setAside(home, entries, now);
  const jobs = newer.map(({ job, known }) =>
    known === null ? `all checkpoints of job ${job}` : `those of job ${job} after round ${known}`,
  );
  log.warn({ home, folder, newer, reason: `${folder} has ${jobs.join(', ')}` }, 'checkpoints-set-aside');
}

async function newerFolders(
  root: string,
  self: string,
  { store, log }: { store: Store; log: Logger },
): Promise<NewerFolder[]> {
  const jobs = new Map(store.jobs.all().map((stored) => [stored.name, stored.job]));
  const newer: NewerFolder[] = [];
  for (const name of await readdir(root).catch(() => [])) {
    const round = Number((await roundsOf(join(root, name))).at(-1) ?? 0);
    const recorded = await readSigned('manifest', join(root, name, MANIFEST_FILE), self);
    if (recorded !== null && recorded.digest !== jobs.get(name)) {
      newer.push({ job: name, round, known: null });
      continue;
    }
    if (round === 0) {
      // A coordinator that was killed while it created a job has left the folder of round 0 without a
      // manifest. Such a folder is only logged.
      if (!jobs.has(name)) log.warn({ folder: join(root, name) }, 'checkpoint-without-job');
      continue;
    }
    const folder = join(root, name, String(round).padStart(4, '0'));
    const found = await readSigned('checkpoint', join(folder, SIGNED_FILE), self);
    if (found === null) continue;
    const { job: claimed, parent } = found.message;
    const job = jobs.get(name);
    if (job === undefined) {
      newer.push({ job: name, round, known: null });
      continue;
    }
    const [newest] = store.rounds.newestCheckpoints(job, 1);
    const isKnown = store.rounds.checkpointOf(job, found.digest) !== null;
    if (isKnown || parent === newest?.digest || claimed !== job) continue;
    newer.push({ job: name, round, known: newest?.round ?? 0 });
  }
  return newer;
}

/** Returns the names of the round folders in a job's folder, in ascending order. */
async function roundsOf(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(a) - Number(b));
}

/**
 * Reads a message that this coordinator (`self`) has signed. Returns null if the file is missing or damaged,
 * or if another peer has signed the message.
 */
async function readSigned<K extends 'checkpoint' | 'manifest'>(
  kind: K,
  path: string,
  self: string,
): Promise<Verified<K> | null> {
  // Skip a file that cannot be read, because it does not prove that the database is older.
  const bytes = await readFile(path).catch(() => null);
  if (bytes === null) return null;
  try {
    const verified = verifyMessage(kind, bytes);
    return verified.author === self ? verified : null;
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return null;
  }
}
