import { personOf } from '../peers/person.ts';
import type { StoredPeer } from '../store/store.ts';

/** A peer, and the person who answers for it. */
export interface Who {
  readonly peer: string;
  readonly person: string;
}

/** Returns a member and the person who answers for it. */
export function whoIs(member: Pick<StoredPeer, 'peer' | 'invite'>): Who {
  return { peer: member.peer, person: personOf(member) };
}

/** Returns whether strikes and bans of one peer also count against the other peer. */
export function isSamePerson(one: Who, other: Who): boolean {
  return one.peer === other.peer || one.person === other.person;
}
