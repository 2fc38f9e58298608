import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError } from '../../common/errors.ts';
import { temporaryFolder } from './folder.ts';

/** Returns whether this process may open a file without rights. Root may open every file, and so may all users of Windows. */
export async function mayOpenEverything(): Promise<boolean> {
  const path = join(await temporaryFolder(), 'file');
  await writeFile(path, 'x', { mode: 0 });
  return readFile(path).then(
    () => true,
    (error: unknown) => {
      if (!isSystemError(error, 'EACCES', 'EPERM')) throw error;
      return false;
    },
  );
}
