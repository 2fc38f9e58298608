import { isSwarmError } from '../../common/errors.ts';
import type { Caller } from '../contact/port.ts';
import { request } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';

/** Error codes of fetches that failed because of the holders, not because of this machine. */
export const HOLDERS_FAILED: ReadonlySet<string> = new Set(['BLOB_UNAVAILABLE', 'BLOB_CORRUPT', 'BLOB_SIZE']);

interface Wanted {
  readonly job: string;
  readonly digest: string;
  readonly coordinator: string;
}

/**
 * Fetches a blob. If no holder has the whole blob, asks the coordinator to check its own copy. If the coordinator has
 * repaired its copy, fetches again.
 * @throws SwarmError COPY_DAMAGED if the coordinator could not repair its copy; the error of `fetch`
 */
export async function fetchOrRecheck<T>(
  { job, digest, coordinator }: Wanted,
  deps: Caller,
  signal: AbortSignal,
  fetch: () => Promise<T>,
): Promise<T> {
  try {
    return await fetch();
  } catch (error) {
    signal.throwIfAborted();
    if (!isSwarmError(error) || !HOLDERS_FAILED.has(error.code)) throw error;
    // If the coordinator does not answer, the error of the fetch is thrown, because it says why the fetch failed.
    const answer = await request(deps, coordinator, 'recheck', { job, digest }, signal).catch(() => null);
    if (answer?.state === 'whole') return fetch();
    if (answer?.state !== 'damaged') throw error;
    throw nodeError(
      'COPY_DAMAGED',
      `the coordinator's copy of blob ${digest} is damaged, and no connected node has a whole copy`,
      { job, digest, coordinator },
      { cause: error },
    );
  }
}
