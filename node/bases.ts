import { copyFile, link, mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileBlobs } from '../net/network.ts';
import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Manifest } from '../protocol/manifest.ts';

/**
 * Lays the base of a job out as a Hugging Face folder, `<home>/bases/<digest>/`, of links to its blobs. Idempotent.
 * @returns the folder
 * @throws SwarmError BASE_DIGEST when the files are not those that the base's digest stands for
 */
export async function linkBase(home: string, blobs: FileBlobs, base: Manifest['base']): Promise<string> {
  const files = base.files
    .map(({ path, size, digest }) => ({ path, size, digest }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  // As `describeBase` in lora/models computes it from a folder.
  const digest = sha256(encodeCbor(files));
  if (digest !== base.digest) {
    throw new SwarmError(
      'BASE_DIGEST',
      `the manifest's base files have the digest ${digest}, not ${base.digest}; its coordinator has to make the job anew`,
      { expected: base.digest, found: digest },
    );
  }
  const target = join(home, 'bases', base.digest);
  if (await isComplete(target, files)) return target;
  const work = `${target}.partial`;
  for (const folder of [work, target]) await rm(folder, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  for (const file of files) await linkOrCopy(blobs.path(file.digest), join(work, file.path));
  await rename(work, target);
  return target;
}

async function isComplete(folder: string, files: Manifest['base']['files']): Promise<boolean> {
  for (const { path, size } of files) {
    const found = await stat(join(folder, path)).catch(() => null);
    if (found?.size !== size) return false;
  }
  return true;
}

/** Some file systems have no hard links. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => copyFile(from, to));
}
