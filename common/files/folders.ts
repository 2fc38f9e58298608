import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { commonError } from '../common-errors.ts';
import type { SwarmError } from '../errors.ts';

interface MakeOptions {
  mode?: number;
  /** Advice if the folder cannot be created. */
  next?: string;
}

/**
 * Creates a folder and its missing parents, one at a time. Node's recursive mkdir never returns if the system answers
 * ENOENT, for example below /proc.
 * @throws SwarmError FOLDER_UNUSABLE
 */
export async function makeFolder(
  path: string,
  { mode = 0o777, next = 'choose a folder that you may write to' }: MakeOptions = {},
): Promise<void> {
  const missing: string[] = [];
  for (let at = path; !(await isFolder(at)) && dirname(at) !== at; at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    await mkdir(folder, { mode }).catch(async (cause: unknown) => {
      const code = errorCode(cause);
      if (code === 'EEXIST') {
        // Accept the folder if another process created it first.
        if (await isFolder(folder)) return;
        throw inTheWay(folder, path, next);
      }
      throw unusable(path, { reason: REASONS[String(code)] ?? String(code), next, cause });
    });
  }
  if (!(await isFolder(path))) throw unusable(path, { reason: 'it does not exist', next });
}

/**
 * Checks that a folder can have this path: no file has the path of the folder or of one of its parents. Creates
 * nothing. Callers check this before long work, so that the work does not fail at its end.
 * @throws SwarmError FOLDER_UNUSABLE
 */
export async function requireNoFile(path: string): Promise<void> {
  for (let at = path; ; at = dirname(at)) {
    // A path that cannot be read fails later, with its own error, when the folder is created.
    const entry = await stat(at).catch(() => null);
    if (entry !== null && !entry.isDirectory()) throw inTheWay(at, path, 'choose another folder');
    if (entry !== null || dirname(at) === at) return;
  }
}

/**
 * Creates an output folder. Without `force`, refuses a folder that is not empty, so that no file of the user is
 * overwritten by accident.
 * @throws SwarmError OUTPUT_EXISTS, FOLDER_UNUSABLE
 */
export async function claimOutput(dir: string, { force }: { force: boolean }): Promise<void> {
  await makeFolder(dir);
  if (!force && (await readdir(dir)).length > 0) {
    throw commonError(
      'OUTPUT_EXISTS',
      `${dir} exists and is not empty`,
      { dir },
      { next: 'choose another folder, or overwrite it with --force' },
    );
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the disk is read-only',
};

function inTheWay(file: string, path: string, next: string): SwarmError {
  const reason = file === path ? 'a file has this name' : `${file} is not a folder`;
  return unusable(path, { reason, next });
}

function unusable(path: string, why: { reason: string; next: string; cause?: unknown }): SwarmError {
  const { reason, next, cause } = why;
  return commonError(
    'FOLDER_UNUSABLE',
    `the folder ${path} cannot be created: ${reason}`,
    { path, reason },
    { next, cause },
  );
}

function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : error;
}
