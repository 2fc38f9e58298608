import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
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
