import type { SwarmNetwork } from '../../net/network.ts';
import type { BlobProof } from '../../protocol/access/job-key.ts';
import type { BlobRef } from '../../protocol/job/manifest.ts';
import type { Head } from '../../protocol/messages.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { Caller } from '../contact/port.ts';
import type { Pauses } from '../limits/pauses.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { FetchTurns } from './fetch-turns.ts';
import { fetchOrRecheck } from './recheck.ts';

/** What fetching blobs uses of the node. */
export interface BlobDeps extends Caller {
  readonly network: Pick<SwarmNetwork, 'fetchBlob' | 'peers' | 'request' | 'signer'>;
  readonly blobs: Pick<BlobStore, 'deletePartial' | 'has'>;
  readonly store: Pick<NodeStore, 'origins'>;
  readonly fetchTurns: FetchTurns;
  /** The pause of the whole node. @default the node never pauses */
  readonly pauses?: Pauses;
}

/** The job whose blobs are fetched. */
export interface BlobPort {
  readonly deps: BlobDeps;
  readonly job: string;
  /** Peer id of the job's coordinator. */
  readonly coordinator: string;
  /** `prove`: makes the proof that this node is admitted to the job. */
  readonly keys: { prove(holder: string): BlobProof };
}

interface ObtainOptions {
  readonly signal: AbortSignal;
  /** Head that names nodes which may have the blob. If it is null, only the coordinator is asked. @default null */
  readonly head?: Head | null;
  readonly onProgress?: (progress: { bytes: number; total: number }) => void;
}

/**
 * Brings a blob of a job into the blob store. If the store has the blob from a job of another coordinator, fetches it
 * again from the holders of this job. Without this second fetch, a coordinator that knows only the digest of a blob
 * could make the node train on the blob.
 * @throws SwarmError BLOB_*; the signal's reason
 */
export async function obtain(context: BlobPort, ref: BlobRef, options: ObtainOptions): Promise<void> {
  const { deps, coordinator } = context;
  const { digest } = ref;
  await deps.fetchTurns.run({ digest, coordinator }, options.signal, async (turn) => {
    const isStored = await deps.blobs.has(digest);
    if (isStored && deps.store.origins.has(digest, coordinator)) return;
    await fetchOnce(context, ref, { ...options, signal: turn, again: isStored });
  });
}

/**
 * Brings a file of a job's base into the blob store. If the store has the file from a job of another coordinator, the node
 * does not fetch the file again, because bases take gigabytes and are mostly public. In this case, the node does not serve
 * the file to the peers of this job.
 * @throws SwarmError BLOB_*; the signal's reason
 */
export async function obtainBaseFile(context: BlobPort, ref: BlobRef, options: ObtainOptions): Promise<void> {
  const { deps, coordinator } = context;
  await deps.fetchTurns.run({ digest: ref.digest, coordinator }, options.signal, async (turn) => {
    if (await deps.blobs.has(ref.digest)) return;
    await fetchOnce(context, ref, { ...options, signal: turn, again: false });
    // Delete the unfinished copies from jobs of other coordinators. These jobs use the finished file now, and
    // unfinished copies of a base can take many gigabytes.
    await deps.blobs.deletePartial(ref.digest);
  });
}

/**
 * Fetches a blob from the holders of a job, and records which coordinator supplied it. An unfinished fetch for the same
 * coordinator is resumed. There is one unfinished copy for each coordinator, because a finished copy with parts from
 * several coordinators would have to be fetched again. With one shared copy, two coordinators whose holders stop early
 * could prevent each other from ever getting the blob.
 * @param options.again whether the blob is fetched although the store has it
 */
async function fetchOnce(
  context: BlobPort,
  ref: BlobRef,
  { signal, head = null, onProgress, again }: ObtainOptions & { again: boolean },
): Promise<void> {
  const { job, deps, coordinator } = context;
  const { network, store } = deps;
  const { digest } = ref;
  // If the store has no copy, forget who supplied earlier copies. Only the coordinator of this fetch supplies
  // the new copy.
  if (!again) store.origins.forget(digest);
  const progress = onProgress && { onProgress };
  const fetch = (signal: AbortSignal): Promise<void> =>
    fetchOrRecheck({ job, digest, coordinator }, deps, signal, () =>
      network.fetchBlob(ref, {
        ...sourcesOf(context, head),
        origin: coordinator,
        signal,
        again,
        ...progress,
      }),
    );
  await (deps.pauses === undefined ? fetch(signal) : deps.pauses.whileTrafficLasts(fetch, signal));
  store.origins.add(digest, coordinator);
}

/**
 * Maximum number of peers from which one blob is fetched. Eight peers are enough to spread the load of a large base.
 */
const MAX_HOLDERS = 8;

/**
 * Returns the peers that probably have a job's blobs: the coordinator, and the connected nodes that the head names.
 * These peers ask for a proof that this node is admitted to the job. `prove` makes the proof.
 */
function sourcesOf(
  { deps, coordinator, keys }: BlobPort,
  head: Head | null,
): { holders: string[]; prove: (holder: string) => BlobProof } {
  const { network } = deps;
  const connected = new Set(network.peers().map(({ peer }) => peer));
  const nodes = [...(head?.included ?? []), ...(head?.assignments ?? [])].map(({ peer }) => peer);
  const near = new Set(nodes.filter((peer) => connected.has(peer) && peer !== network.signer.peerId));
  near.delete(coordinator);
  const holders = [coordinator, ...near].slice(0, MAX_HOLDERS);
  return { holders, prove: (holder) => keys.prove(holder) };
}
