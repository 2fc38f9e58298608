import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { folderBytes } from '../../storage/folder-size.ts';
import { blobsOf, type UsedBlob } from '../../verify/bundle/encode.ts';
import { largestAdapter, RESIDUAL_OVERHEAD_BYTES } from '../../verify/checks/adapter-size.ts';
import type { CheckpointRecord, JobRecord } from '../../verify/record.ts';
import type { WitnessSpace } from './witness-space.ts';

/** Maximum time without an arriving byte while a blob is fetched, in milliseconds. */
const IDLE_MS = 60_000;
/**
 * Maximum time to fetch a blob, in milliseconds. The largest adapters have a GiB, which takes an hour at 300 kB/s. A slow
 * coordinator delays only the verification of its own jobs.
 */
const FETCH_MS = 60 * 60_000;

export interface WitnessBlobsDeps {
  readonly network: SwarmNetwork;
  /** Blobs of the node. */
  readonly blobs: BlobStore;
  /**
   * Returns whether a coordinator has supplied a blob of the node. If so, the coordinator already knows that the node
   * has the blob, and the witness may use the node's copy without asking the coordinator.
   */
  readonly isFrom: (digest: string, coordinator: string) => boolean;
  /** Disk space that the owner of the machine lends and that the node does not need. */
  readonly space: WitnessSpace;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The blobs of the checkpoint that a witness verifies, in a separate store. The coordinator chooses the digests of these
 * blobs. If they were in the node's own store, the coordinator could find out which blobs of other coordinators the node
 * has, or delay a fetch of such a blob.
 */
export class WitnessBlobs {
  readonly #job: string;
  readonly #coordinator: string;
  readonly #folder: string;
  readonly #deps: WitnessBlobsDeps;
  #store: FileBlobStore | null = null;

  constructor(
    { job, coordinator, folder }: { job: string; coordinator: string; folder: string },
    deps: WitnessBlobsDeps,
  ) {
    this.#job = job;
    this.#coordinator = coordinator;
    this.#folder = folder;
    this.#deps = deps;
  }

  /**
   * Fetches the blobs of a checkpoint, and the adapter and residual of its parent. A blob that the coordinator does not
   * give is left out. An adapter that is larger than the manifest allows is left out too, and the verification reports it.
   * @param options `withScored`: whether to also fetch the payloads that were scored but not merged
   * @throws SwarmError WITNESS_DISK
   */
  async gather(
    source: JobRecord,
    parent: CheckpointRecord | null,
    record: CheckpointRecord,
    { round, withScored }: { round: number; withScored: boolean },
  ): Promise<BlobStore> {
    const store = await FileBlobStore.open({ home: this.#folder }, this.#deps);
    this.#store = store;
    const { message: manifest } = verifyMessage('manifest', source.manifest);
    const before = parent === null ? [] : blobsOf({ ...parent, proofs: [] }).filter(isStart);
    // Each blob is on the disk twice: in the store, and in the bundle. The store may still have blobs of an earlier call
    // that a pause ended.
    let inStore = await folderBytes(this.#folder);
    let inBundle = 0;
    const reserve = (more: number): Promise<void> =>
      this.#deps.space.reserve(this.#job, { needed: inStore + inBundle + more, round });
    const own = blobsOf(record).filter(({ isOnlyScored = false }) => withScored || !isOnlyScored);
    for (const wanted of [...before, ...own]) {
      const maxBytes = Math.min(wanted.maxBytes, limitOf(wanted, manifest));
      if ((wanted.size ?? 0) > maxBytes) continue;
      const isStored = await store.has(wanted.digest);
      await reserve((isStored ? 1 : 2) * (wanted.size ?? 0));
      const bytes = await source.blob({ ...wanted, maxBytes });
      if (bytes === null) continue;
      if (!isStored) inStore += bytes.byteLength;
      inBundle += bytes.byteLength;
      await reserve(0);
      await store.put(bytes);
    }
    return store;
  }

  /** Fetches a blob from the coordinator. Returns null if the coordinator does not have it or does not give it. */
  async fetch(ref: { digest: string; size: number }, signal: AbortSignal): Promise<Uint8Array | null> {
    const { network, blobs, clock, isFrom } = this.#deps;
    const into = this.#store!;
    const { digest, size } = ref;
    const coordinator = this.#coordinator;
    if (isFrom(digest, coordinator)) {
      const own = await blobs.get(digest, { maxBytes: size }).catch((error: unknown) => {
        // If the node's copy is deleted or damaged, fetch the blob below. The coordinator may still have it.
        if (isSwarmError(error)) return null;
        throw error;
      });
      if (own !== null) return own;
    }
    const limits = { clock, idleMs: IDLE_MS, totalMs: FETCH_MS, signal, what: `the fetch of blob ${digest}` };
    try {
      await withProgress(limits, (inner, onArrival) =>
        network.fetchBlob(ref, { holders: [coordinator], into, signal: inner, onArrival }),
      );
      return await into.get(digest, { maxBytes: size });
    } catch (error) {
      signal.throwIfAborted();
      if (isSwarmError(error, 'BLOB_UNAVAILABLE')) return null;
      throw error;
    }
  }
}

function isStart({ use }: UsedBlob): boolean {
  return use === 'adapter' || use === 'residual';
}

function limitOf({ use, maxBytes }: UsedBlob, manifest: Parameters<typeof largestAdapter>[0]): number {
  if (use === 'adapter') return largestAdapter(manifest);
  return use === 'residual' ? largestAdapter(manifest) + RESIDUAL_OVERHEAD_BYTES : maxBytes;
}
