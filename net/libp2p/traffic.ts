/**
 * Counts of all bytes sent and received, from the counters of the sockets. Written for libp2p 3.3.11 and `@libp2p/tcp`
 * 11.0.28. libp2p counts bytes only with its metrics service. Listening to a connection's messages is not an option,
 * because the listener would take the messages away from their reader. If `MultiaddrConnection` had byte counters, this
 * file would not be needed.
 */

import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';
import { socketOf } from './tcp-socket.ts';

/** Bytes that crossed the network: payload, framing, encryption, handshakes and pings. */
export class Traffic {
  readonly #open = new Set<Socket>();
  #sent = 0;
  #received = 0;

  /**
   * Counts a connection until it closes. Skips a relayed connection, because its bytes count on the relay's connection.
   */
  follow(connection: MultiaddrConnection): void {
    const socket = socketOf(connection);
    if (socket === undefined || this.#open.has(socket)) return;
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
