import { constants } from 'node:fs';
import { copyFile, link, mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseDescription, type BaseFile, baseDigest } from './base-identity.ts';
import { modelError } from './errors.ts';

export interface BaseFolderOptions {
  /** The folder becomes `<home>/bases/<digest>`. */
  readonly home: string;
  readonly base: Pick<BaseDescription, 'digest' | 'files'>;
  /** Where the content with a digest lies. */
  readonly pathOf: (digest: string) => string;
}

/**
 * Lays a base model out as the Hugging Face folder that it was described from, out of links to its files' contents.
 * Idempotent.
 * @returns the folder
 * @throws SwarmError BASE_DIGEST when the files are not those that the base's digest stands for
 */
export async function layOutBase({ home, base, pathOf }: BaseFolderOptions): Promise<string> {
  const digest = baseDigest(base.files);
  if (digest !== base.digest) {
    throw modelError(
      'BASE_DIGEST',
      `the manifest's base files have the digest ${digest}, not ${base.digest}; its coordinator has to make the job anew`,
      { expected: base.digest, found: digest },
    );
  }
  const target = join(home, 'bases', base.digest);
  if (await isComplete(target, base.files)) return target;
  const work = `${target}.partial`;
  for (const folder of [work, target]) await rm(folder, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  for (const file of base.files) await linkOrCopy(pathOf(file.digest), join(work, file.path));
  await rename(work, target);
  return target;
}

async function isComplete(folder: string, files: readonly BaseFile[]): Promise<boolean> {
  for (const { path, size } of files) {
    const found = await stat(join(folder, path)).catch(() => null);
    if (found?.size !== size) return false;
  }
  return true;
}

/**
 * Some file systems have no hard links. A copy over a name that is taken would be written through the link into the
 * content of another digest, so it is refused: a stranger chooses the names, and some systems take two of them for one.
 */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => copyFile(from, to, constants.COPYFILE_EXCL));
}
