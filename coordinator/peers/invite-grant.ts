import type { SwarmError } from '../../common/errors.ts';
import type { InviteState } from '../../protocol/api/coordinator.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import { coordinatorError } from '../errors.ts';
import type { StoredInvite } from '../store/store.ts';

/** Invite and role with which a peer is admitted. */
export interface Grant {
  /** Id of the personal invite with which the peer joins; null if it joins without one. */
  readonly invite: string | null;
  readonly role: Role;
}

/**
 * Returns the state of a personal invite. `used` and `expired` invites admit no further peers, but peers that have used
 * the invite before may join again. A `revoked` invite admits no peer.
 * @param bound number of peers that have used the invite
 */
export function inviteState(invite: StoredInvite, bound: number, now: number): InviteState {
  if (invite.revokedAt !== null) return 'revoked';
  if (invite.expiresAt !== null && now > invite.expiresAt) return 'expired';
  return bound >= invite.uses ? 'used' : 'active';
}

export function revoked(invite: string): SwarmError {
  return coordinatorError('INVITE_REVOKED', 'the operator of the job has revoked the invite', { invite });
}

/**
 * Returns what an invite grants a peer that shows it.
 * @param facts.bound peers that have used the invite. They may use it again, even if it has expired or is used up
 * @throws SwarmError INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED
 */
export function grantOf(
  invite: StoredInvite,
  peer: string,
  { bound, now }: { bound: ReadonlyMap<string, number>; now: number },
): Grant {
  const { id, role, uses, expiresAt } = invite;
  const state = inviteState(invite, bound.size, now);
  if (state === 'revoked') throw revoked(id);
  if (!bound.has(peer) && state === 'expired') {
    const at = new Date(expiresAt!).toISOString();
    throw coordinatorError('INVITE_EXPIRED', `the invite expired at ${at}`, { invite: id, expiresAt });
  }
  if (!bound.has(peer) && state === 'used') {
    const machines = uses === 1 ? 'another machine has' : `${uses} other machines have`;
    throw coordinatorError('INVITE_USED', `${machines} used the invite`, { invite: id, uses });
  }
  return { invite: id, role };
}
