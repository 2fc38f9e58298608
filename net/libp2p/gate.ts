/**
 * Shares the places for inbound connections fairly between addresses. Written for libp2p 3.3.11, whose
 * connection manager has only one limit for all addresses together (`maxConnections`), so one address can use
 * it up. Therefore create.ts turns that limit off. If the connection manager had limits per address, this
 * file would be shorter.
 */

import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import { netError } from '../errors.ts';
import type { Shares } from '../shares.ts';
import { gatherWrites } from './gathered-writes.ts';
import type { InboundHandshakes } from './inbound-handshakes.ts';
import type { InboundSlices } from './inbound-slices.ts';
import { networkOf } from './remote-network.ts';
import { socketOf } from './tcp-socket.ts';
import type { Traffic } from './traffic.ts';

export interface GateDeps {
  traffic: Traffic;
  shares: Shares;
  handshakes: InboundHandshakes;
  slices: InboundSlices;
}

/**
 * Returns the connection gater of a host. The gater gives each address its share of the connections, and refuses peers
 * without an Ed25519 key. It also makes each connection count its bytes (traffic.ts), send a message with one system
 * call (gathered-writes.ts), and process arriving bytes in turns (inbound-slices.ts).
 */
export function gate({ traffic, shares, handshakes, slices }: GateDeps): ConnectionGater {
  const denied = (peer: PeerId, connection: MultiaddrConnection): boolean => {
    traffic.follow(connection);
    gatherWrites(connection);
    slices.slice(peer, connection);
    // Deny peers with another type of key. Signatures are verified with the key inside the peer id, and only
    // Ed25519 ids hold a key that we support.
    return peer.type !== 'Ed25519';
  };

  return {
    denyInboundEncryptedConnection: denied,
    denyOutboundEncryptedConnection: denied,
    denyInboundUpgradedConnection: (peer, connection) => {
      // A relayed connection has no socket. It runs inside a stream, and that stream already has a permit.
      const socket = socketOf(connection);
      if (socket !== undefined) handshakes.end(socket);
      // A connection that is already closed emits no 'close', so nothing would release its permit.
      if (connection.status !== 'open') return true;
      const claimant = { address: networkOf(connection.remoteAddr), peer: peer.toString() };
      const release = shares.connections.take(claimant, () => connection.abort(gaveWay()));
      if (release === null) return true;
      connection.addEventListener('close', release, { once: true });
      return false;
    },
  };
}

function gaveWay(): Error {
  return netError(
    'CONNECTION_REFUSED',
    'the connection was closed, because another address or peer needs its place in the queue',
  );
}
