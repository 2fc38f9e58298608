import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryFolder } from './folder.ts';

/** Returns whether this process may open a file without rights. Root may open every file, and so may all users of Windows. */
export async function mayOpenEverything(): Promise<boolean> {
  const path = join(await temporaryFolder(), 'file');
  await writeFile(path, 'x', { mode: 0 });
  return (await readFile(path).catch(() => null)) !== null;
}
