import type { BlobUse, NodeStore } from './store/node-store.ts';

/** Facts that decide which peer may fetch which blob from a node. */
export interface BlobAudience {
  readonly store: Pick<NodeStore, 'useOf'>;
  /** Whether the requester is the coordinator that this node was told to use. */
  readonly isCoordinator: boolean;
  /** The job that the node is in; null before it has joined. */
  readonly job: string | null;
  /** Whether the requester may read this job: the job is open, or the requester has proved that it has the job key. */
  readonly mayRead: boolean;
}

/**
 * Returns whether a peer may fetch a blob from this node. The coordinator may fetch updates, base, data and adapter. A
 * peer that may read the job may fetch base, data and adapter. No peer may fetch anything else, such as the error
 * feedback or the moments of the optimiser.
 */
export function mayFetch(digest: string, { store, isCoordinator, job, mayRead }: BlobAudience): boolean {
  if (isCoordinator) return store.useOf(digest).length > 0;
  // Requests of strangers end here, so that they cost no database query.
  if (job === null || !mayRead) return false;
  const isShared = (use: BlobUse): boolean => use.job === job && use.kind !== 'update';
  return store.useOf(digest).some(isShared);
}
