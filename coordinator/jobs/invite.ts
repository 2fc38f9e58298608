import { sortByReach } from '../../net/addresses.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { encodeInvite, INVITE_ADDRESSES } from '../../protocol/invite.ts';
import type { StoredJob } from '../store/store.ts';

/**
 * Returns the text of an invite to a job. Its first addresses are those that most machines can reach.
 * @param token token of the shared invite or of a personal one; null for a job that needs none
 */
export function inviteTo({ job, token }: Pick<StoredJob, 'job' | 'token'>, network: SwarmNetwork): string {
  const addresses = sortByReach(network.addresses()).slice(0, INVITE_ADDRESSES);
  // If the coordinator listens nowhere, the invite still names its peer id.
  if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
  return encodeInvite({ addresses, job, token });
}
