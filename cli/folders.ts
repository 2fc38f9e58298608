import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SwarmError } from '../protocol/errors.ts';

/**
 * Makes a folder and those above it. Node's own recursive mkdir never returns where the system denies a folder with
 * ENOENT, as /proc does: so one by one.
 * @throws SwarmError FOLDER_UNUSABLE
 */
export async function makeFolder(path: string, { mode = 0o777 }: { mode?: number } = {}): Promise<void> {
  const missing: string[] = [];
  for (let at = path; !(await isFolder(at)) && dirname(at) !== at; at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    await mkdir(folder, { mode }).catch((cause: unknown) => {
      const code = errorCode(cause);
      // Somebody else was first.
      if (code === 'EEXIST') return;
      throw unusable(path, code === 'EACCES' || code === 'EPERM' ? 'permission denied' : String(code), cause);
    });
  }
  if (!(await isFolder(path))) throw unusable(path, 'it is no folder');
}

/** Nothing of the user's is overwritten unasked. Makes the folder. @throws SwarmError OUTPUT_EXISTS, FOLDER_UNUSABLE */
export async function claimOutput(dir: string, { force }: { force: boolean }): Promise<void> {
  await makeFolder(dir);
  if (!force && (await readdir(dir)).length > 0) {
    throw new SwarmError('OUTPUT_EXISTS', `${dir} exists and is not empty`, {
      dir,
      next: 'choose another folder, or overwrite it with --force',
    });
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
}

function unusable(path: string, reason: string, cause?: unknown): SwarmError {
  return new SwarmError(
    'FOLDER_UNUSABLE',
    `the folder ${path} cannot be made: ${reason}`,
    { path, reason, next: 'name a folder that you may write to' },
    { cause },
  );
}

function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : error;
}
