import type { StoredPeer } from '../store/store.ts';

/**
 * Prefix of a person who uses a personal invite. No peer id begins with this prefix, because peer ids do not contain a
 * colon.
 */
const INVITED = 'invite:';

/**
 * Returns the person who answers for a node: `invite:ID` if the node joined with a personal invite, else its peer id.
 * All nodes that joined with the same personal invite are one person. A node that joined with the shared invite is a
 * separate person, because the shared invite does not say who uses it.
 */
export function personOf({ peer, invite }: Pick<StoredPeer, 'peer' | 'invite'>): string {
  return invite === null ? peer : INVITED + invite;
}

/** Returns the id of the personal invite that a person uses; null if the person uses none. */
export function inviteOf(person: string): string | null {
  return person.startsWith(INVITED) ? person.slice(INVITED.length) : null;
}
