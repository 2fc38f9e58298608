import type { BlobOrigins, BlobUse } from '../store/blob-origins.ts';

/** Facts that decide which peer may fetch which blob from a node. */
export interface BlobAudience {
  readonly origins: Pick<BlobOrigins, 'usesOf'>;
  /** The requester, if it is a coordinator that this node was told to use; otherwise null. */
  readonly coordinator: string | null;
  /**
   * The jobs of this node that the requester may read: open jobs, and jobs for which the requester sent a
   * valid proof that it has the job key.
   */
  readonly readable: ReadonlySet<string>;
}

/**
 * Returns whether a peer may fetch a blob from this node. A coordinator may fetch updates, base, data and adapter of its
 * own jobs. A peer that may read a job may fetch base, data and adapter. Base, data and adapter must have come from the
 * job's coordinator or its peers: a manifest that names the digest of another job's blob gives no access to the blob. No
 * peer may fetch anything else, such as the error feedback or the moments of the optimiser.
 */
export function mayFetch(digest: string, { origins, coordinator, readable }: BlobAudience): boolean {
  // For most strangers, the answer is known here, without a query of the database.
  if (coordinator === null && readable.size === 0) return false;
  const isForPeer = (use: BlobUse): boolean =>
    (coordinator !== null && use.coordinator === coordinator) ||
    (readable.has(use.job) && use.kind !== 'update');
  return origins.usesOf(digest).some(isForPeer);
}
