import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError, type SwarmError } from '../../../common/errors.ts';
import { renameWithRetry } from '../../../common/files/durable.ts';
import { linkOrCopy, nullIfMissing } from '../../../common/files/file-system.ts';
import { modelError } from '../errors.ts';
import { type BaseDescription, type BaseFile, baseDigest } from './base-identity.ts';

export interface BaseFolderOptions {
  /** Home folder of the daemon. The base is written to `<home>/bases/<digest>`. */
  readonly home: string;
  readonly base: Pick<BaseDescription, 'digest' | 'files'>;
  /** Returns the path of the file whose content has this digest. */
  readonly pathOf: (digest: string) => string;
}

/**
 * Maximum size of a file whose digest is checked each time, in bytes. Config and tokenizer are smaller. Weights are larger,
 * and reading them takes long, so only the regular check of all blobs reads them (storage/blob-scrub.ts).
 */
const CHECKED_BYTES = 64 * 2 ** 20;

/**
 * Folders that are being made. A job, an evaluation and a registry can need the same base at the same time, and then
 * wait for the same folder.
 */
const inProgress = new Map<string, Promise<string>>();

/**
 * Makes the Hugging Face folder of a base. Each file in the folder is a hard link to the stored file that `pathOf`
 * returns, or a copy of it on a disk without hard links. May be called again for the same base. Makes the folder again if a
 * stored file was replaced.
 * @returns the folder
 * @throws SwarmError BASE_DIGEST if the base's digest differs from the digest of its files; BASE_FILE_DAMAGED with the
 *   digest of a stored file that is missing or damaged
 */
export async function layOutBase({ home, base, pathOf }: BaseFolderOptions): Promise<string> {
  const digest = baseDigest(base.files);
  if (digest !== base.digest) {
    throw modelError(
      'BASE_DIGEST',
      `the manifest lists base files with the digest ${digest}, but says that the base has the digest ${base.digest}`,
      { expected: base.digest, found: digest },
    );
  }
  const target = join(home, 'bases', base.digest);
  const known = inProgress.get(target);
  if (known !== undefined) return known;
  const made = makeFolder(target, base.files, pathOf).finally(() => inProgress.delete(target));
  inProgress.set(target, made);
  return made;
}

async function makeFolder(
  target: string,
  files: readonly BaseFile[],
  pathOf: (digest: string) => string,
): Promise<string> {
  if (await isComplete(target, files, pathOf)) return target;
  const work = `${target}.partial`;
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  // The names are untrusted, and some file systems treat two different names as the same. In this case linkOrCopy
  // refuses the second file.
  for (const file of files) {
    const path = join(work, file.path);
    await linkOrCopy(pathOf(file.digest), path).catch((error: unknown) => {
      throw isSystemError(error, 'ENOENT') ? damaged(file) : error;
    });
    if (!(await isWhole(path, file))) throw damaged(file);
  }
  // The old folder may be the only copy of a file, so it stays until the new folder is complete.
  await rm(target, { recursive: true, force: true });
  await renameWithRetry(work, target);
  return target;
}

/** Returns whether a folder has all files of a base, each whole (see `isWhole`) and not older than its stored file. */
async function isComplete(
  folder: string,
  files: readonly BaseFile[],
  pathOf: (digest: string) => string,
): Promise<boolean> {
  for (const file of files) {
    const path = join(folder, file.path);
    const found = await stat(path).catch(nullIfMissing);
    if (found === null || !(await isWhole(path, file))) return false;
    // If the stored file is missing, the folder may have the only copy, so this copy is used.
    const stored = await stat(pathOf(file.digest)).catch(nullIfMissing);
    if (stored !== null && stored.ino !== found.ino && stored.mtimeMs > found.mtimeMs) return false;
  }
  return true;
}

/** Returns whether a file has the expected size and, up to CHECKED_BYTES, the expected digest. */
async function isWhole(path: string, { size, digest }: BaseFile): Promise<boolean> {
  const found = await stat(path).catch(nullIfMissing);
  if (found?.size !== size) return false;
  if (size > CHECKED_BYTES) return true;
  const bytes = await readFile(path).catch(nullIfUnreadable);
  return bytes !== null && createHash('sha256').update(bytes).digest('hex') === digest;
}

/** Returns null if this process may not read a file, or the disk cannot read it. Such a file counts as damaged. */
function nullIfUnreadable(error: unknown): null {
  if (isSystemError(error, 'ENOENT', 'EACCES', 'EPERM', 'EIO')) return null;
  throw error;
}

function damaged({ path, digest }: BaseFile): SwarmError {
  return modelError('BASE_FILE_DAMAGED', `the file ${path} of the base is damaged or missing on the disk`, {
    file: path,
    digest,
  });
}
