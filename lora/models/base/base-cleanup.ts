import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, parsePartialName } from '../../../common/files/durable.ts';
import type { BaseBits } from './base-bits.ts';
import { digestRecords, forgetDigests } from './digest-cache.ts';

/** Length of a base's digest in hex. Names of derived files and folders begin with it. */
const DIGEST_CHARACTERS = 64;

/**
 * Called for each file or folder that could not be deleted. The clean-up then continues, because a file that stays only
 * takes disk space. Windows, for example, cannot delete a file that another process has mapped.
 */
export type OnUndeleted = (undeleted: { path: string; error: unknown }) => void;

/** Describes, in one line of text, a file that could not be deleted. */
export function undeletedLine({ path, error }: Parameters<OnUndeleted>[0]): string {
  return `could not delete ${path}: ${error instanceof Error ? error.message : String(error)}`;
}

/**
 * Deletes the folders that `layOutBase` made and the weights that `prepareWeights` converted, except the folders and
 * weights of the bases in `keep`. Also deletes the cached digests of files that no longer exist. All of them can be
 * made again.
 * @param keep digests of the bases that are still needed
 */
export async function removeBases({
  home,
  keep,
  onUndeleted,
}: {
  home: string;
  keep: ReadonlySet<string>;
  onUndeleted: OnUndeleted;
}): Promise<void> {
  const cache = join(home, 'cache');
  for (const folder of [join(home, 'bases'), cache]) {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      if (path !== digestRecords(cache) && !keep.has(name.slice(0, DIGEST_CHARACTERS)))
        await tryDelete(path, onUndeleted);
    }
  }
  await forgetDigests(cache);
}

/**
 * Names of the files that `prepareWeights` and `prepareServingWeights` write. A name consists of the base's digest, the
 * format and, for quantised weights, the version of the quantisation.
 */
const WEIGHTS = /^[0-9a-f]{64}\.(?:f32|[qs](?<bits>[48])v(?<version>\d+))$/;
/**
 * Time without a write, in milliseconds, after which a partial file counts as abandoned. A process that converts
 * weights writes far more often than once an hour. The process id in the file's name alone does not tell whether the
 * writer still runs, because containers that share the cache cannot see each other's processes.
 */
const ABANDONED_MS = 3_600_000;

/**
 * Deletes useless converted weights of all bases: quantised weights of older versions, and partial files of processes
 * that have ended. Leaves files with other names alone.
 *
 * @param version current version of the quantisation
 */
export async function removeOutdated(
  cacheDir: string,
  { version, onUndeleted }: { version: number; onUndeleted: OnUndeleted },
): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const path = join(cacheDir, name);
    const partial = parsePartialName(name);
    const weights = WEIGHTS.exec(partial?.target ?? name);
    if (weights === null) continue;
    const outdated =
      partial === null ? Number(weights.groups?.version) < version : await isAbandoned(path, partial.pid);
    if (outdated) await tryDelete(path, onUndeleted);
  }
}

/** Deletes all converted weights that have other base bits than `bits`, for all bases. The folder need not exist. */
export async function removeOtherBits(
  cacheDir: string,
  { bits, onUndeleted }: { bits: BaseBits; onUndeleted: OnUndeleted },
): Promise<void> {
  for (const name of await readdir(cacheDir).catch(() => [])) {
    const weights = WEIGHTS.exec(name);
    if (weights === null || Number(weights.groups?.bits ?? 32) === bits) continue;
    await tryDelete(join(cacheDir, name), onUndeleted);
  }
}

async function tryDelete(path: string, onUndeleted: OnUndeleted): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    onUndeleted({ path, error });
  }
}

async function isAbandoned(path: string, pid: number): Promise<boolean> {
  if (isAlive(pid)) return false;
  const found = await stat(path).catch(() => null);
  return found !== null && Date.now() - found.mtimeMs >= ABANDONED_MS;
}
