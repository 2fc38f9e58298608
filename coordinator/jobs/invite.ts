import { randomBytes } from 'node:crypto';
import { sortByReach } from '../../net/addresses.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { encodeInvite, INVITE_ADDRESSES } from '../../protocol/access/invite.ts';
import type { Admission, StoredJob } from '../store/store.ts';

/** Size of an invite's token in bytes. 16 random bytes cannot be guessed. */
const TOKEN_BYTES = 16;

/** Returns a token for the invites of a new job; null if the job needs none. */
export function newToken({ kind }: Admission): string | null {
  return kind === 'invite' ? randomBytes(TOKEN_BYTES).toString('base64url') : null;
}

/**
 * Returns the text of an invite to a job. The addresses that most machines can reach come first.
 * @param token token of the shared invite or of a personal invite; null for a job that needs no token
 */
export function inviteTo({ job, token }: Pick<StoredJob, 'job' | 'token'>, network: SwarmNetwork): string {
  const addresses = sortByReach(network.addresses()).slice(0, INVITE_ADDRESSES);
  // If the coordinator listens on no address, the invite contains only its peer id.
  if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
  return encodeInvite({ addresses, job, token });
}
