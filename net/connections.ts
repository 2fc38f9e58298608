import type { Connection, Libp2p, PeerInfo } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import { withDeadline } from '../common/time/deadline.ts';
import { DIAL_TIMEOUT_MS } from '../protocol/limits.ts';
import { connectError, parseAddress } from './addresses.ts';
import { netError } from './errors.ts';
import { networkOf } from './libp2p/remote-network.ts';
import type { PeerConnection } from './network.ts';
import { PeerStoreLimit } from './peer-store-limit.ts';

/** Peers discovered in the local network are dialled only while there are fewer connections than this. */
const DISCOVERED_CONNECTIONS = 64;

interface ConnectionsDeps {
  node: Libp2p;
  clock: Clock;
  log: Logger;
  /** Aborted when the host stops. */
  stopped: AbortSignal;
}

/** The connections of a libp2p node: lists them, dials peers, and keeps the peer store small. */
export class Connections {
  readonly #deps: ConnectionsDeps;
  readonly #node: Libp2p;

  constructor(deps: ConnectionsDeps) {
    this.#deps = deps;
    this.#node = deps.node;
    const peerStore = new PeerStoreLimit({ forget: (peer) => this.#forget(peer) });
    this.onPeer(({ type, peer }) =>
      type === 'connect' ? peerStore.connected(peer) : peerStore.disconnected(peer),
    );
    this.#node.addEventListener('peer:discovery', (event) => this.#discovered(event.detail));
  }

  /**
   * Lists the peers with an open connection. A peer with several connections is listed with its oldest
   * connection.
   */
  peers(): PeerConnection[] {
    const oldest = new Map<string, Connection>();
    for (const connection of this.#node.getConnections()) {
      const peer = connection.remotePeer.toString();
      const known = oldest.get(peer);
      if (known === undefined || connection.timeline.open < known.timeline.open) oldest.set(peer, connection);
    }
    return [...oldest].map(([peer, { remoteAddr, direction, rtt, timeline }]) => ({
      peer,
      address: remoteAddr.toString(),
      direction,
      rttMs: rtt ?? null,
      connectedAt: timeline.open,
    }));
  }

  has(peer: string): boolean {
    return this.#node.getConnections(peerIdFromString(peer)).length > 0;
  }

  /** Returns the network address of a peer, or the peer id if the peer is not connected. */
  networkOf(peer: string): string {
    const [connection] = this.#node.getConnections(peerIdFromString(peer));
    return connection === undefined ? peer : networkOf(connection.remoteAddr);
  }

  /** Connects to an address. Returns the peer id. @throws SwarmError CONNECT_FAILED, or the signal's reason */
  async connect(address: string, signal: AbortSignal): Promise<string> {
    const { multiaddr } = parseAddress(address);
    const deadline = {
      clock: this.#deps.clock,
      ms: DIAL_TIMEOUT_MS,
      signal,
      what: `connecting to ${address}`,
    };
    try {
      const { remotePeer } = await withDeadline(deadline, (inner) =>
        this.#node.dial(multiaddr, { signal: inner }),
      );
      return remotePeer.toString();
    } catch (cause) {
      signal.throwIfAborted();
      throw connectError(address, cause);
    }
  }

  /** Closes all connections to a peer immediately. */
  disconnect(peer: string): void {
    const closed = netError('PEER_DISCONNECTED', 'this host has closed its connections to the peer', {
      peer,
    });
    // An orderly close would wait for the other side, which may be hostile. So the connections are aborted.
    for (const connection of this.#node.getConnections(peerIdFromString(peer))) connection.abort(closed);
  }

  /**
   * Closes the connections to a peer, and dials the peer again if we had dialled it. A peer that dialled us has to dial
   * again itself, because we may not be able to reach it behind its router.
   */
  async reconnect(peer: string): Promise<void> {
    const id = peerIdFromString(peer);
    const outbound = this.#node.getConnections(id).find(({ direction }) => direction === 'outbound');
    const signal = this.#dialSignal();
    await this.#node.hangUp(id, { signal });
    if (outbound !== undefined) await this.#node.dial(outbound.remoteAddr, { signal });
  }

  /** Returns the protocols that a peer supports. The list is empty until identify has reported them. */
  async protocolsOf(peer: string): Promise<readonly string[]> {
    // `get` rejects for a peer that the store does not contain.
    const known = await this.#node.peerStore.get(peerIdFromString(peer)).catch(() => null);
    return known?.protocols ?? [];
  }

  /**
   * Calls the listener when the first connection to a peer opens and when the last one closes. Returns a function that
   * removes the listener.
   */
  onPeer(listener: (event: { type: 'connect' | 'disconnect'; peer: string }) => void): () => void {
    const onConnect = (event: CustomEvent<unknown>): void =>
      listener({ type: 'connect', peer: String(event.detail) });
    const onDisconnect = (event: CustomEvent<unknown>): void =>
      listener({ type: 'disconnect', peer: String(event.detail) });
    this.#node.addEventListener('peer:connect', onConnect);
    this.#node.addEventListener('peer:disconnect', onDisconnect);
    return () => {
      this.#node.removeEventListener('peer:connect', onConnect);
      this.#node.removeEventListener('peer:disconnect', onDisconnect);
    };
  }

  #forget(peer: string): void {
    this.#node.peerStore
      .delete(peerIdFromString(peer))
      .catch((error: unknown) => this.#deps.log.debug({ peer, error }, 'peer-not-forgotten'));
  }

  #discovered({ id, multiaddrs }: PeerInfo): void {
    const connections = this.#node.getConnections();
    if (
      connections.length >= DISCOVERED_CONNECTIONS ||
      connections.some(({ remotePeer }) => remotePeer.equals(id))
    ) {
      return;
    }
    this.#node
      .dial(multiaddrs, { signal: this.#dialSignal() })
      .catch((error: unknown) =>
        this.#deps.log.debug({ peer: id.toString(), error }, 'discovered-peer-unreachable'),
      );
  }

  #dialSignal(): AbortSignal {
    return AbortSignal.any([this.#deps.stopped, AbortSignal.timeout(DIAL_TIMEOUT_MS)]);
  }
}
