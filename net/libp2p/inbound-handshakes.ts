/**
 * Gives each address a share of the inbound handshakes. Written for `@libp2p/tcp` 11.0.28, whose listener builds
 * several objects and timers for each socket before libp2p asks whether to accept the socket. libp2p's own limit
 * (`maxIncomingPendingConnections`) counts the handshakes of all addresses together, so one address can use it up.
 * Therefore create.ts turns this limit off. If libp2p asked before it builds the objects, this file would be shorter.
 */

import type { Server, Socket } from 'node:net';
import type { Listener, Transport } from '@libp2p/interface';
import { type TCPComponents, type TCPOptions, tcp } from '@libp2p/tcp';
import { RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { NetworkMeter } from '../meter.ts';
import type { Shares } from '../shares.ts';
import { networkOfIp } from './remote-network.ts';

/** The member of a listener that its published type leaves out. */
interface TcpListener {
  readonly server: Server;
}

/**
 * Number of new connections that one address may open per second. The limit is enough for a school class that
 * starts its nodes behind one router at once.
 */
const NEW_CONNECTIONS = { calls: 20, perMs: 1000 };
/** Loopback addresses may open any number of connections, because whole swarms may start on one machine at once. */
const LOOPBACK = /^(127\.|::1$|::ffff:127\.)/;
/** Maximum time without a byte in a handshake. A handshake takes a few round trips. */
const HANDSHAKE_IDLE_MS = 3_000;

export interface HandshakeDeps {
  shares: Shares;
  clock: Clock;
  meter: NetworkMeter;
}

/** The sockets whose connections are not complete yet. */
export class InboundHandshakes {
  readonly #deps: HandshakeDeps;
  readonly #limiter: RateLimiter;
  /** Functions that end the handshake of a socket. */
  readonly #ends = new WeakMap<Socket, () => void>();

  constructor(deps: HandshakeDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps);
  }

  /** Creates the TCP transport. Its listeners close a socket that gets no permit, before libp2p sees the socket. */
  transport(options: TCPOptions): (components: TCPComponents) => Transport {
    return (components) => {
      const library = tcp(options)(components);
      const createListener = library.createListener.bind(library);
      library.createListener = (listenOptions) => this.#guard(createListener(listenOptions));
      return library;
    };
  }

  /**
   * Returns whether a handshake may begin. If so, it holds a permit until {@link end} is called or the socket
   * closes.
   */
  begin(socket: Socket): boolean {
    const { shares, clock, meter } = this.#deps;
    const ip = socket.remoteAddress;
    // The socket has already closed, so it has no address and emits no 'close'.
    if (ip === undefined) return false;
    const address = networkOfIp(ip);
    if (!LOOPBACK.test(ip) && !this.#limiter.take(address, NEW_CONNECTIONS)) {
      meter.refusal({ queue: 'handshakes', reason: 'rate' });
      return false;
    }
    const release = shares.handshakes.take({ address, peer: '' }, () => socket.resetAndDestroy());
    if (release === null) return false;
    const cancel = whenStalled(socket, clock, () => {
      meter.refusal({ queue: 'handshakes', reason: 'stalled' });
      socket.resetAndDestroy();
    });
    const end = (): void => {
      cancel();
      release();
    };
    this.#ends.set(socket, end);
    socket.once('close', end);
    return true;
  }

  /** Notes that a handshake is complete. */
  end(socket: Socket): void {
    this.#ends.get(socket)?.();
  }

  #guard(listener: Listener): Listener {
    const { server } = listener as unknown as TcpListener;
    const [accept] = server.listeners('connection');
    server.removeAllListeners('connection');
    server.on('connection', (socket) => {
      if (this.begin(socket)) accept!.call(server, socket);
      else socket.resetAndDestroy();
    });
    return listener;
  }
}

/** Calls `onStalled` when no byte has arrived for HANDSHAKE_IDLE_MS. Returns a function that stops watching. */
function whenStalled(socket: Socket, clock: Clock, onStalled: () => void): () => void {
  let received = socket.bytesRead;
  let cancel = (): void => {};
  const watch = (): void => {
    cancel = clock.after(HANDSHAKE_IDLE_MS, () => {
      if (socket.bytesRead === received) return onStalled();
      received = socket.bytesRead;
      watch();
    });
  };
  watch();
  return () => cancel();
}
