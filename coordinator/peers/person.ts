import type { StoredPeer } from '../store/store.ts';

/** Marks the person behind a personal invite. A peer id never contains a colon. */
const INVITED = 'invite:';

/**
 * Returns who answers for a node: `invite:ID` if the node joined with a personal invite, else its peer id. All nodes
 * that joined with the same personal invite are one person. The shared invite of a job names no person, because its
 * holders are unknown.
 */
export function personOf({ peer, invite }: Pick<StoredPeer, 'peer' | 'invite'>): string {
  return invite === null ? peer : INVITED + invite;
}
