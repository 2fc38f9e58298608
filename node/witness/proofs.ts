import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurably } from '../../common/durable.ts';

/**
 * Maximum number of bundles that are kept as proof against a job. One bundle suffices as
 * proof. A bundle can have a few GiB, so without this limit a hostile coordinator could fill the disk.
 */
export const KEPT_PROOFS = 4;

/**
 * Moves a bundle to the place of a proof against a job.
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
