import type { IdentifyResult, Libp2p } from '@libp2p/interface';
import { ByAddress } from '../../common/limits/by-address.ts';
import { RPC_PROTOCOL } from '../../protocol/requests/rpc.ts';
import type { OtherVersion } from '../network.ts';
import { networkOf } from './remote-network.ts';

/** Prefix that the names of all versions of the rpc protocol have in common. */
const RPC_PREFIX = RPC_PROTOCOL.replace(/\d+$/, '');
/** Maximum length of the name and version of a program, in characters. The peer sends any text. */
const AGENT_CHARACTERS = 40;

/** Limits of the list. A stranger can claim any version, with any number of identities. */
export const LISTED_VERSIONS = { total: 256, perAddress: 32 };

/** The connected peers that run this program, but do not support this version of the rpc protocol. */
export class OtherVersions {
  readonly #peers = new ByAddress<OtherVersion>(LISTED_VERSIONS);

  constructor(node: Pick<Libp2p, 'addEventListener' | 'getConnections'>) {
    node.addEventListener('peer:identify', ({ detail }) => this.#identified(detail, node));
    node.addEventListener('peer:disconnect', ({ detail }) => this.#peers.delete(detail.toString()));
  }

  list(): OtherVersion[] {
    return this.#peers.values();
  }

  #identified(
    { peerId, protocols, agentVersion = '' }: IdentifyResult,
    node: Pick<Libp2p, 'getConnections'>,
  ): void {
    const peer = peerId.toString();
    const isOther =
      protocols.some((name) => name.startsWith(RPC_PREFIX)) && !protocols.includes(RPC_PROTOCOL);
    // The peer may have gone while it was identified, and would then stay in the list.
    const [connection] = node.getConnections(peerId);
    if (!isOther || connection === undefined) {
      this.#peers.delete(peer);
      return;
    }
    const agent = agentVersion.slice(0, AGENT_CHARACTERS);
    this.#peers.set(peer, networkOf(connection.remoteAddr), { peer, agent });
  }
}
