import type { Head } from '../../protocol/messages.ts';
import { type PhaseContext, sourcesOf } from '../context.ts';
import { fetchOrRecheck } from './recheck.ts';

interface ObtainOptions {
  readonly signal: AbortSignal;
  /** Head that names nodes which may have the blob. If it is null, only the coordinator is asked. @default null */
  readonly head?: Head | null;
  readonly onProgress?: (progress: { bytes: number; total: number }) => void;
}

/**
 * Brings a blob of a job into the blob store. If the store has the blob from a job of another coordinator, fetches it
 * again from the holders of this job. Otherwise, a coordinator that only knows the digest of a blob could make the node
 * train on it.
 * @throws SwarmError BLOB_*; the signal's reason
 */
export async function obtain(
  context: PhaseContext,
  ref: { digest: string; size: number },
  { signal, head = null, onProgress }: ObtainOptions,
): Promise<void> {
  const { deps, coordinator } = context;
  const { blobs, network, store, fetchTurns } = deps;
  const { origins } = store;
  const { digest } = ref;
  await fetchTurns.run({ digest, coordinator }, signal, async (turn) => {
    const isStored = await blobs.has(digest);
    if (isStored && origins.has(digest, coordinator)) return;
    const fetch = async (again: boolean): Promise<boolean> => {
      origins.begin(digest, coordinator, { isStored: again });
      const progress = onProgress && { onProgress };
      await fetchOrRecheck({ job: context.job, digest, coordinator }, deps, turn, () =>
        network.fetchBlob(ref, { ...sourcesOf(context, head), signal: turn, again, ...progress }),
      );
      return origins.end(digest, coordinator);
    };
    // If a part of the bytes came from another coordinator, the whole blob is fetched once more.
    if (!(await fetch(isStored))) await fetch(true);
  });
}

/**
 * Brings a file of a job's base into the blob store. If the store has the file from a job of another coordinator, the
 * file is used as it is, because bases have gigabytes and are mostly public. In this case, the node does not serve the
 * file to the peers of this job.
 * @throws SwarmError BLOB_*; the signal's reason
 */
export async function obtainBaseFile(
  context: PhaseContext,
  ref: { digest: string; size: number },
  { signal, head = null, onProgress }: ObtainOptions,
): Promise<void> {
  const { deps, coordinator } = context;
  const { blobs, network, store, fetchTurns } = deps;
  await fetchTurns.run({ digest: ref.digest, coordinator }, signal, async (turn) => {
    if (await blobs.has(ref.digest)) return;
    store.origins.begin(ref.digest, coordinator, { isStored: false });
    const progress = onProgress && { onProgress };
    await fetchOrRecheck({ job: context.job, digest: ref.digest, coordinator }, deps, turn, () =>
      network.fetchBlob(ref, { ...sourcesOf(context, head), signal: turn, ...progress }),
    );
    store.origins.end(ref.digest, coordinator);
  });
}
