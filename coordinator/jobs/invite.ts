import { sortByReach } from '../../net/addresses.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { encodeInvite, INVITE_ADDRESSES } from '../../protocol/invite.ts';
import type { StoredJob } from '../store/store.ts';

/** Returns the invite to a job. Its first addresses are those that most machines can reach. */
export function inviteTo({ job, token }: StoredJob, network: SwarmNetwork): string {
  const addresses = sortByReach(network.addresses()).slice(0, INVITE_ADDRESSES);
  // If the coordinator listens nowhere, the invite still names its peer id.
  if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
  return encodeInvite({ addresses, job, token });
}
