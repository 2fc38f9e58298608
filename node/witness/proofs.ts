import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurably } from '../../common/files/durable.ts';

/**
 * Maximum number of bundles that are kept as proof against a job. One bundle suffices as
 * proof. A bundle can have a few GiB, so without this limit a hostile coordinator could fill the disk.
 */
export const KEPT_PROOFS = 4;

/** Returns the size of all proofs in a folder, in bytes. Does not count the working files in its subfolders. */
export async function proofBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  // The owner of the machine may delete a proof meanwhile. It then counts as empty.
  const sizes = files.map(({ name }) =>
    stat(join(folder, name))
      .then(({ size }) => size)
      .catch(() => 0),
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/**
 * Keeps a bundle as a proof against a job, by moving the file.
 * @returns the path of the proof; null if the folder has enough proofs against the job from other rounds
 */
export async function keepProof(
  file: string,
  { folder, job, round }: { folder: string; job: string; round: number },
): Promise<string | null> {
  const prefix = `${job.slice(0, 12)}-round-`;
  const name = `${prefix}${round}.bundle`;
  const kept = (await readdir(folder)).filter((one) => one.startsWith(prefix) && one !== name);
  if (kept.length >= KEPT_PROOFS) return null;
  const proof = join(folder, name);
  await renameDurably(file, proof);
  return proof;
}
