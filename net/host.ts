import { join } from 'node:path';
import type { Connection, Libp2p, PeerInfo } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Clock } from '../common/clock.ts';
import { commonError } from '../common/common-errors.ts';
import { withDeadline } from '../common/deadline.ts';
import type { Logger } from '../common/logger.ts';
import { checkOptions } from '../common/schema-problems.ts';
import { DIAL_TIMEOUT_MS } from '../protocol/limits.ts';
import type { RpcMethod, RpcRequest, RpcResponse } from '../protocol/rpc.ts';
import type { Signer } from '../protocol/signing.ts';
import type { ResumableBlobs } from '../storage/blob-store.ts';
import { hostAddressesSchema } from './address-options.ts';
import { connectError, parseAddress } from './addresses.ts';
import { BlobFetcher } from './blobs/fetcher.ts';
import { BlobServer } from './blobs/server.ts';
import { netError } from './errors.ts';
import { Gossip } from './gossip.ts';
import type { Identity } from './identity.ts';
import { createNode } from './libp2p/create.ts';
import { Watchdog, type WatchdogOptions } from './libp2p/gossip-watchdog.ts';
import { networkOf } from './libp2p/remote-network.ts';
import { streamsOf } from './libp2p/streams.ts';
import { Traffic } from './libp2p/traffic.ts';
import type {
  FetchBlobOptions,
  GossipHandler,
  PeerConnection,
  SubscribeOptions,
  SwarmNetwork,
} from './network.ts';
import { type NetworkObserver, noObserver } from './observer.ts';
import { PeerStoreLimit } from './peer-store-limit.ts';
import { PersistentPeers } from './persistent-peers.ts';
import { Rpc } from './rpc.ts';
import { Shares } from './shares.ts';
import { limitYoungGeneration } from './young-generation.ts';

export interface HostOptions {
  /** Multiaddrs to listen on; port 0 takes any free port. */
  listen: readonly string[];
  /** Multiaddrs to announce besides the listen addresses, such as a router's, without /p2p. @default [] */
  announce?: readonly string[];
  /** Multiaddrs to stay connected to, with or without /p2p. */
  bootstrap: readonly string[];
  /** Peer ids of coordinators whose swarms are discovered in the local network. An empty list turns mDNS off. */
  mdns: readonly string[];
  /** The home of the daemon; persistent peers are saved in `<home>/peers.json`. */
  home: string;
  /** Name and version of the program, sent to peers. */
  agent: string;
  watchdog?: WatchdogOptions;
}

export interface HostDeps {
  identity: Identity;
  blobs: ResumableBlobs;
  log: Logger;
  clock: Clock;
  /** Random number in [0, 1), for jitter. @default Math.random */
  random?: () => number;
  /** Measures rpc, gossip and blobs. @default none */
  observer?: NetworkObserver;
}

/** Peers discovered in the local network are dialled only while there are fewer connections than this. */
const DISCOVERED_CONNECTIONS = 64;
const GOSSIP_PROTOCOL_PREFIX = '/meshsub/';

/**
 * Starts a libp2p node with TCP, noise, yamux, gossip, rpc and blobs, and returns it as a SwarmNetwork. Dials
 * persistent peers until they answer.
 * @throws SwarmError USAGE for a wrong address in the options; LISTEN_FAILED
 */
export async function createHost(options: HostOptions, deps: HostDeps): Promise<SwarmNetwork> {
  // If an address to announce is wrong, libp2p throws only later, from a timer.
  checkOptions(hostAddressesSchema, options);
  limitYoungGeneration();
  const { clock, identity, observer = noObserver } = deps;
  const traffic = new Traffic();
  const shares = new Shares({ observer });
  const node = await createNode(options, {
    privateKey: identity.privateKey,
    traffic,
    shares,
    clock,
    observer,
  });
  const host = new Host(options, { ...deps, observer, node, traffic, shares });
  await host.start();
  return host;
}

interface Parts {
  node: Libp2p<{ pubsub: object }>;
  traffic: Traffic;
  shares: Shares;
  observer: NetworkObserver;
}

class Host implements SwarmNetwork {
  readonly signer: Signer;
  readonly #options: HostOptions;
  readonly #deps: HostDeps & Parts;
  readonly #node: Libp2p<{ pubsub: object }>;
  readonly #gossip: Gossip;
  readonly #rpc: Rpc;
  readonly #blobServer: BlobServer;
  readonly #blobFetcher: BlobFetcher;
  readonly #persistent: PersistentPeers;
  readonly #watchdog: Watchdog;
  readonly #stopped = new AbortController();

  constructor(options: HostOptions, deps: HostDeps & Parts) {
    const { node, blobs, log, clock, random = Math.random, observer, shares } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#node = node;
    this.signer = deps.identity.signer;
    const streams = streamsOf(node);
    const networkOf = (peer: string): string => this.networkOf(peer);
    this.#gossip = new Gossip({ pubsub: node.services.pubsub, clock, log, observer, networkOf });
    this.#rpc = new Rpc({ streams, clock, log, observer, permits: shares.calls });
    this.#blobServer = new BlobServer({
      streams,
      blobs,
      clock,
      log,
      observer,
      ranges: shares.ranges,
      buffers: shares.buffers,
    });
    this.#blobFetcher = new BlobFetcher({ streams, blobs, clock, log, observer });
    this.#persistent = new PersistentPeers(
      { path: join(options.home, 'peers.json') },
      {
        clock,
        log,
        random,
        dial: (address) => this.connect(address, { signal: this.#stopped.signal }),
        isConnected: (peer) => node.getConnections(peerIdFromString(peer)).length > 0,
      },
    );
    this.reserveFor(() => false);
    this.#watchdog = new Watchdog(options.watchdog ?? {}, {
      clock,
      log,
      survey: () => this.#surveyGossip(),
      reconnect: (peer) => this.#reconnect(peer),
    });
    const peerStore = new PeerStoreLimit({ forget: (peer) => this.#forget(peer) });
    node.addEventListener('peer:connect', (event) => peerStore.connected(event.detail.toString()));
    node.addEventListener('peer:disconnect', (event) => {
      const peer = event.detail.toString();
      this.#persistent.disconnected(peer);
      peerStore.disconnected(peer);
    });
    node.addEventListener('peer:discovery', (event) => this.#discovered(event.detail));
  }

  async start(): Promise<void> {
    // Add the protocols before the node starts, so that identify also sends them to the first peer.
    await Promise.all([this.#rpc.start(), this.#blobServer.start()]);
    try {
      await this.#node.start();
    } catch (cause) {
      const listen = this.#options.listen.join(', ');
      const text = cause instanceof Error ? cause.message : String(cause);
      // libp2p surrounds the system's reason with a stack and with advice on its own configuration.
      const reason = /\blisten (E[A-Z]+: [^\n]*)/.exec(text)?.[1]?.trim() ?? text;
      throw commonError('LISTEN_FAILED', `could not listen on ${listen}: ${reason}`, { listen }, { cause });
    }
    await this.#persistent.start();
    for (const address of this.#options.bootstrap) this.#persistent.add(address, { save: false });
    this.#watchdog.start();
  }

  addresses(): string[] {
    return this.#node.getMultiaddrs().map(String);
  }

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

  networkOf(peer: string): string {
    const [connection] = this.#node.getConnections(peerIdFromString(peer));
    return connection === undefined ? peer : networkOf(connection.remoteAddr);
  }

  addPersistentPeer(address: string): void {
    parseAddress(address);
    this.#persistent.add(address, { save: true });
  }

  async connect(address: string, { signal }: { signal: AbortSignal }): Promise<string> {
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

  disconnect(peer: string): void {
    const closed = netError('PEER_DISCONNECTED', 'this host has closed its connections to the peer', {
      peer,
    });
    // A connection that is closed in an orderly way waits for the other side, which may be hostile.
    for (const connection of this.#node.getConnections(peerIdFromString(peer))) connection.abort(closed);
  }

  publish(topic: string, bytes: Uint8Array): Promise<number> {
    return this.#gossip.publish(topic, bytes);
  }

  subscribe(topic: string, handler: GossipHandler, options?: SubscribeOptions): () => void {
    return this.#gossip.subscribe(topic, handler, options);
  }

  request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>> {
    return this.#rpc.request(peer, method, body, { signal: this.#whileRunning(options.signal) });
  }

  handle<M extends RpcMethod>(
    method: M,
    handler: (peer: string, body: RpcRequest<M>) => Promise<RpcResponse<M>>,
  ): () => void {
    return this.#rpc.handle(method, handler);
  }

  fetchBlob(ref: { digest: string; size: number }, options: FetchBlobOptions): Promise<void> {
    return this.#blobFetcher.fetch(ref, { ...options, signal: this.#whileRunning(options.signal) });
  }

  reserveFor(isKnown: (peer: string) => boolean): void {
    this.#deps.shares.isKnown = (peer) => this.#persistent.has(peer) || isKnown(peer);
  }

  traffic(): { sent: number; received: number } {
    return this.#deps.traffic.total();
  }

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

  async stop(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort(netError('HOST_STOPPED', 'the network was stopped'));
    this.#watchdog.stop();
    await this.#persistent.stop();
    await this.#node.stop();
    this.#blobServer.stop();
  }

  #whileRunning(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#stopped.signal, signal]);
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
    const signal = this.#whileRunning(AbortSignal.timeout(DIAL_TIMEOUT_MS));
    this.#node
      .dial(multiaddrs, { signal })
      .catch((error: unknown) =>
        this.#deps.log.debug({ peer: id.toString(), error }, 'discovered-peer-unreachable'),
      );
  }

  async #surveyGossip(): Promise<{ peer: string; connectedAt: number; flows: boolean }[]> {
    const survey = this.peers().map(async ({ peer, connectedAt }) => {
      const known = await this.#node.peerStore.get(peerIdFromString(peer)).catch(() => null);
      const protocols = known?.protocols ?? [];
      // If identify failed, the protocols of the peer are unknown, and gossipsub has opened no stream. The peer then
      // counts as supporting gossip, so that the watchdog reconnects it.
      const supportsGossip =
        protocols.length === 0 || protocols.some((name) => name.startsWith(GOSSIP_PROTOCOL_PREFIX));
      return supportsGossip ? [{ peer, connectedAt, flows: this.#gossip.flowsWith(peer) }] : [];
    });
    return (await Promise.all(survey)).flat();
  }

  /**
   * Closes the connections to a peer, and dials the peer again if we had dialled it. A peer that dialled us has to dial
   * again itself, because we may not be able to reach it behind its router.
   */
  async #reconnect(peer: string): Promise<void> {
    const id = peerIdFromString(peer);
    const outbound = this.#node.getConnections(id).find(({ direction }) => direction === 'outbound');
    const signal = this.#whileRunning(AbortSignal.timeout(DIAL_TIMEOUT_MS));
    await this.#node.hangUp(id, { signal });
    if (outbound !== undefined) await this.#node.dial(outbound.remoteAddr, { signal });
  }
}
