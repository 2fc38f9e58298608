/**
 * Keeps the turns of the event loop short. Written for `@libp2p/tcp` 11.0.28. Node.js handles the bytes of all readable
 * sockets in one turn of the event loop, and libp2p processes the bytes of a socket as soon as they arrive. Without
 * this file, a crowd of peers that call at the same moment would block everything else, although none of them exceeds a
 * limit. If libp2p processed the bytes of its connections in slices of time, this file would not be needed.
 */

import type { MultiaddrConnection, PeerId } from '@libp2p/interface';
import { FairTurns } from '../../common/limits/fair-turns.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { Shares } from '../shares.ts';
import { networkOf } from './remote-network.ts';
import { socketOf } from './tcp-socket.ts';

/** Maximum time that one turn of the event loop spends on arriving bytes, in milliseconds. */
const SLICE_MS = 8;

/** The members of a TCP connection that its published type leaves out. */
interface TcpConnection extends MultiaddrConnection {
  /** Processes bytes that have arrived on the socket. */
  onData(bytes: Uint8Array): void;
  /** `paused` while libp2p wants no more bytes. */
  readonly readStatus: 'readable' | 'paused' | 'closing' | 'closed';
}

export interface InboundSlicesDeps {
  shares: Pick<Shares, 'isKnown'>;
  clock: Clock;
}

/**
 * Processes the bytes that arrive on connections in slices of time. When the time of a turn of the event loop is used
 * up, the connections whose bytes are left wait in line for the next turn. {@link FairTurns} decides the order of
 * addresses, and of the connections of an address. A socket is paused while it waits, so that at most a few of its
 * bytes are in memory.
 */
export class InboundSlices {
  readonly #turns: FairTurns;
  readonly #shares: Pick<Shares, 'isKnown'>;

  constructor({ shares, clock }: InboundSlicesDeps) {
    this.#shares = shares;
    this.#turns = new FairTurns({ sliceMs: SLICE_MS }, { clock });
  }

  /**
   * Makes a connection process its arriving bytes in slices of time. Does nothing for a connection without a
   * socket.
   */
  slice(peer: PeerId, connection: MultiaddrConnection): void {
    const socket = socketOf(connection);
    if (socket === undefined) return;
    const tcp = connection as TcpConnection;
    const id = peer.toString();
    const address = networkOf(connection.remoteAddr);
    const port = socket.remotePort ?? 0;
    const process = tcp.onData.bind(tcp);
    /** Bytes that wait for a turn; null while the connection does not wait. */
    let waiting: Uint8Array[] | null = null;
    const wait = async (): Promise<void> => {
      // One peer can have several connections. Each has its own place in the line.
      const end = await this.#turns.take({ address, peer: `${id} ${port}`, known: this.#shares.isKnown(id) });
      const pieces = waiting ?? [];
      waiting = null;
      for (const bytes of pieces) process(bytes);
      end?.();
      if (connection.status === 'open' && tcp.readStatus === 'readable') socket.resume();
    };
    tcp.onData = (bytes) => {
      if (waiting !== null) {
        waiting.push(bytes);
        return;
      }
      const end = this.#turns.tryTake();
      if (end !== null) {
        process(bytes);
        return end();
      }
      waiting = [bytes];
      socket.pause();
      wait().catch((error: unknown) =>
        connection.abort(error instanceof Error ? error : new Error(String(error))),
      );
    };
  }
}
