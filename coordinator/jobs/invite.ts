import type { SwarmNetwork } from '../../net/network.ts';
import { encodeInvite, INVITE_ADDRESSES } from '../../protocol/invite.ts';
import type { StoredJob } from '../store/store.ts';

/** Returns the invite to a job, with the addresses that other machines can reach first. */
export function inviteTo({ job, token }: StoredJob, network: SwarmNetwork): string {
  const all = network.addresses();
  // A machine without a network has only its loopback address, which serves nodes on the same machine.
  const remote = all.filter(
    (address) => !address.startsWith('/ip4/127.') && !address.startsWith('/ip6/::1/'),
  );
  const local = all.filter((address) => !remote.includes(address));
  const addresses = [...remote, ...local].slice(0, INVITE_ADDRESSES);
  // A coordinator that listens nowhere is still named by its peer id.
  if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
  return encodeInvite({ addresses, job, token });
}
