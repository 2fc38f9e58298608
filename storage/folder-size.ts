import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Number of files whose sizes are read at the same time. */
const AT_ONCE = 32;

/** Returns the sum of the sizes of all files in a folder and below it, in bytes. Links are not followed. */
export async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  let total = 0;
  for (let i = 0; i < files.length; i += AT_ONCE) {
    // A file that was deleted in the meantime counts as empty.
    const sizes = files.slice(i, i + AT_ONCE).map(({ parentPath, name }) =>
      stat(join(parentPath, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
    for (const size of await Promise.all(sizes)) total += size;
  }
  return total;
}
