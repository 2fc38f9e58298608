import type { Head } from '../protocol/messages.ts';
import type { BlobUse, NodeStore } from './store/node-store.ts';

/** Number of rounds after which a peer that no head has named since is no longer counted as a member of the job. */
const NAMED_ROUNDS = 2;

/** The other nodes of a job, as far as this node knows them: the peers that the heads of the last rounds name. */
export class NamedPeers {
  readonly #rounds = new Map<string, number>();

  /** Notes the peers of a head, and forgets those that only older heads named. */
  note({ round, assignments, included }: Head): void {
    for (const { peer } of [...assignments, ...included]) this.#rounds.set(peer, round);
    for (const [peer, named] of this.#rounds) if (named < round - NAMED_ROUNDS) this.#rounds.delete(peer);
  }

  has(peer: string): boolean {
    return this.#rounds.has(peer);
  }
}

/** Facts that decide which peer may fetch which blob from a node. */
export interface BlobAudience {
  readonly store: Pick<NodeStore, 'useOf'>;
  /** Returns whether a peer is the coordinator that this node was told to use. */
  isCoordinator(peer: string): boolean;
  /** The job that the node is in; null before it has joined. */
  readonly job: { readonly digest: string; readonly isOpen: boolean; readonly members: NamedPeers } | null;
}

/**
 * Returns whether a peer may fetch a blob from this node. The coordinator may fetch updates, base, data and adapter. Other
 * nodes of the job may fetch base, data and adapter, and so may every peer if the job is open. No peer may fetch anything
 * else, such as the error feedback or the moments of the optimiser.
 */
export function mayFetch(peer: string, digest: string, { store, isCoordinator, job }: BlobAudience): boolean {
  if (isCoordinator(peer)) return store.useOf(digest).length > 0;
  // Most strangers end here, without a query of the database.
  if (job === null || !(job.isOpen || job.members.has(peer))) return false;
  const isShared = (use: BlobUse): boolean => use.job === job.digest && use.kind !== 'update';
  return store.useOf(digest).some(isShared);
}
