import { isSwarmError } from '../common/errors.ts';
import type { BlobStore } from './blobs.ts';

/** Repairs blobs. */
export interface Repairs {
  /** Repairs a blob that is missing or damaged. @returns whether the store now has the whole blob */
  repair(digest: string): Promise<boolean>;
}

/** Codes of a blob that is missing or damaged in the store. */
const LOST: ReadonlySet<string> = new Set([
  'BLOB_MISSING',
  'BLOB_CORRUPT',
  'BLOB_TRUNCATED',
  'BASE_FILE_DAMAGED',
]);

/** Returns the digest of the lost blob, if an error says that a blob is missing or damaged; otherwise null. */
export function lostBlob(error: unknown): string | null {
  if (!isSwarmError(error) || !LOST.has(error.code)) return null;
  return typeof error.values.digest === 'string' ? error.values.digest : null;
}

/** Reads a blob. Repairs it first if it is missing or damaged. @throws SwarmError BLOB_* if the repair fails */
export async function getRepaired(
  digest: string,
  options: { maxBytes: number },
  blobs: Pick<BlobStore, 'get'>,
  repair: Repairs,
): Promise<Uint8Array> {
  try {
    return await blobs.get(digest, options);
  } catch (error) {
    if (lostBlob(error) === null || !(await repair.repair(digest))) throw error;
    return blobs.get(digest, options);
  }
}
