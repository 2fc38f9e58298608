import type { Socket } from 'node:net';
import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import type { AddressLimit } from './address-limit.ts';
import { gatherWrites } from './gathered-writes.ts';

/** Bytes that crossed the network, everything included: payload, framing, encryption, handshakes, pings. */
export class Traffic {
  readonly #open = new Set<Socket>();
  #sent = 0;
  #received = 0;

  follow(connection: MultiaddrConnection): void {
    // Listening to the connection's messages would take them away from its reader; the socket counts by itself.
    const { socket } = connection as unknown as { socket: Socket };
    if (this.#open.has(socket)) return;
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#sent += socket.bytesWritten;
      this.#received += socket.bytesRead;
    });
  }

  total(): { sent: number; received: number } {
    let sent = this.#sent;
    let received = this.#received;
    for (const socket of this.#open) {
      sent += socket.bytesWritten;
      received += socket.bytesRead;
    }
    return { sent, received };
  }
}

/**
 * The gate that every connection passes: when it comes in, and once its peer is known. Not too many from one address,
 * Ed25519 identities only, all of it counted, and sent gathered.
 */
export function gate({ traffic, addresses }: { traffic: Traffic; addresses: AddressLimit }): ConnectionGater {
  const denied = (peer: PeerId, connection: MultiaddrConnection): boolean => {
    traffic.follow(connection);
    gatherWrites(connection);
    // Everything that a peer signs is checked with the key inside its id; only Ed25519 ids hold one we know.
    return peer.type !== 'Ed25519';
  };
  return {
    denyInboundConnection: (connection) => !addresses.admits(connection),
    denyInboundEncryptedConnection: denied,
    denyOutboundEncryptedConnection: denied,
  };
}
