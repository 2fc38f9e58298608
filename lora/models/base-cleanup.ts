import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, parsePartialName } from '../../common/durable.ts';
import { digestRecords, forgetDigests } from './digest-cache.ts';

/** Characters of a base's digest, with which the names of all that is derived from it begin. */
const DIGEST_CHARACTERS = 64;

/**
 * Deletes what was derived from base models that nobody needs any more: the folders that `layOutBase` made, the
 * weights that `prepareWeights` converted, and the digests of files that are gone. All of it is made again where that
 * turns out to be wrong.
 * @param keep digests of the bases that are needed
 */
export async function removeBases({
  home,
  keep,
}: {
  home: string;
  keep: ReadonlySet<string>;
}): Promise<void> {
  const cache = join(home, 'cache');
  for (const folder of [join(home, 'bases'), cache]) {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      if (path !== digestRecords(cache) && !keep.has(name.slice(0, DIGEST_CHARACTERS)))
        await rm(path, { recursive: true, force: true });
    }
  }
  await forgetDigests(cache);
}

/** Names that `prepareWeights` gives: the base's digest, and what its weights became in which version. */
const WEIGHTS = /^[0-9a-f]{64}\.(?:f32|q[48]v(\d+))$/;
/**
 * Whoever writes weights leaves no file untouched for so long. The number of a process alone does not tell: in another
 * container that shares the cache it means another one.
 */
const ABANDONED_MS = 3_600_000;

/**
 * Deletes converted weights that nobody reads any more, of whatever base: those of fewer bits in versions before this one,
 * and what processes that are gone had begun. Files by other names are somebody else's.
 *
 * @param version of fewer bits
 */
export async function removeOutdated(cacheDir: string, { version }: { version: number }): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const path = join(cacheDir, name);
    const partial = parsePartialName(name);
    const weights = WEIGHTS.exec(partial?.target ?? name);
    if (weights === null) continue;
    const outdated = partial === null ? Number(weights[1]) < version : await isAbandoned(path, partial.pid);
    // One that is still mapped by an earlier version stays where the system does not let it go.
    if (outdated) await rm(path, { force: true }).catch(() => {});
  }
}

async function isAbandoned(path: string, pid: number): Promise<boolean> {
  if (isAlive(pid)) return false;
  const found = await stat(path).catch(() => null);
  return found !== null && Date.now() - found.mtimeMs >= ABANDONED_MS;
}
