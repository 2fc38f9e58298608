import { sortByReach } from '../../net/addresses.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { encodeInvite, INVITE_ADDRESSES } from '../../protocol/invite.ts';
import type { StoredJob } from '../store/store.ts';

/** Returns the invite to a job, with the addresses that most machines can reach first. */
export function inviteTo({ job, token }: StoredJob, network: SwarmNetwork): string {
  const addresses = sortByReach(network.addresses()).slice(0, INVITE_ADDRESSES);
  // A coordinator that listens nowhere is still named by its peer id.
  if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
  return encodeInvite({ addresses, job, token });
}
