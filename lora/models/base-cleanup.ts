import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Characters of a base's digest, with which the names of all that is derived from it begin. */
const DIGEST_CHARACTERS = 64;

/**
 * Deletes what was derived from base models that nobody needs any more: the folders that `layOutBase` made and the
 * weights that `prepareWeights` converted. Both are made again where that turns out to be wrong.
 * @param keep digests of the bases that are needed
 */
export async function removeBases({
  home,
  keep,
}: {
  home: string;
  keep: ReadonlySet<string>;
}): Promise<void> {
  for (const folder of [join(home, 'bases'), join(home, 'cache')]) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (!keep.has(name.slice(0, DIGEST_CHARACTERS)))
        await rm(join(folder, name), { recursive: true, force: true });
    }
  }
}
