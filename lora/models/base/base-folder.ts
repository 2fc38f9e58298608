import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { renameWithRetry } from '../../../common/durable.ts';
import { linkOrCopy } from '../../../common/file-system.ts';
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
 * Makes the Hugging Face folder of a base. Each file in the folder is a hard link to the stored file that `pathOf`
 * returns, or a copy of it on a disk without hard links. May be called again for the same base.
 * @returns the folder
 * @throws SwarmError BASE_DIGEST if the base's digest differs from the digest of its files
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
  if (await isComplete(target, base.files)) return target;
  const work = `${target}.partial`;
  for (const folder of [work, target]) await rm(folder, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  // The names are untrusted, and some file systems treat two different names as the same. In this case linkOrCopy
  // refuses the second file.
  for (const file of base.files) await linkOrCopy(pathOf(file.digest), join(work, file.path));
  await renameWithRetry(work, target);
  return target;
}

async function isComplete(folder: string, files: readonly BaseFile[]): Promise<boolean> {
  for (const { path, size } of files) {
    const found = await stat(join(folder, path)).catch(() => null);
    if (found?.size !== size) return false;
  }
  return true;
}
