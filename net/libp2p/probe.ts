/**
 * Checks that a peer answers at an address. Written for libp2p 3.3.11. A second connection to a connected peer (`dial`
 * with `force`) would be visible to all protocols. Calls and gossip could use this connection, and would fail when it
 * is closed. If libp2p could connect without registering the connection, this file would not be needed.
 */

import type {
  Connection,
  ConnectionEncrypter,
  MultiaddrConnection,
  Transport,
  Upgrader,
} from '@libp2p/interface';
import { select } from '@libp2p/multistream-select';
import { peerIdFromString } from '@libp2p/peer-id';
import { parseAddress } from '../addresses.ts';
import { netError } from '../errors.ts';

/** The components of a libp2p node that this service needs. */
interface Components {
  readonly transportManager: {
    dialTransportForMultiaddr(address: ReturnType<typeof parseAddress>['multiaddr']): Transport | undefined;
  };
  readonly upgrader: { getConnectionEncrypters(): Map<string, ConnectionEncrypter> };
}

/**
 * Connects to an address that ends in /p2p/<peer id>, checks in an encrypted handshake that this peer answers, and closes
 * the connection. Resolves if the peer has proved its identity.
 * @throws errors of libp2p, or the signal's reason
 */
export type Probe = (address: string, signal: AbortSignal) => Promise<void>;

/** Returns a libp2p service that checks addresses. */
export function addressProbe(): (components: Components) => { probe: Probe } {
  return ({ transportManager, upgrader }) => ({
    async probe(address, signal) {
      const { multiaddr, peer } = parseAddress(address);
      const transport = transportManager.dialTransportForMultiaddr(multiaddr);
      if (transport === undefined || peer === null) {
        throw netError('CONNECT_FAILED', `"${address}" is not a TCP address of a peer`, { address });
      }
      const upgradeOutbound = async (connection: MultiaddrConnection): Promise<Connection> => {
        try {
          const encrypters = upgrader.getConnectionEncrypters();
          const protocol = await select(connection, [...encrypters.keys()], { signal });
          const { remotePeer } = await encrypters.get(protocol)!.secureOutbound(connection, {
            remotePeer: peerIdFromString(peer),
            // Without a multiplexer, the connection is never complete for the other side, so the other side opens no
            // streams on it.
            skipStreamMuxerNegotiation: true,
            signal,
          });
          return { remotePeer } as Connection;
        } finally {
          connection.abort(netError('PEER_DISCONNECTED', 'the check of the address has ended', { peer }));
        }
      };
      await transport.dial(multiaddr, { signal, upgrader: { upgradeOutbound } as unknown as Upgrader });
    },
  });
}
