import { lookup } from 'node:dns/promises';
import { join } from 'node:path';
import type { Libp2p } from '@libp2p/interface';
import { commonError } from '../common/common-errors.ts';
import { limitHeapGrowth, limitYoungGeneration } from '../common/heap.ts';
import { checkOptions } from '../common/schema-problems.ts';
import type { AddressReach } from '../protocol/api/reach.ts';
import type { RpcMethod, RpcRequest, RpcResponse } from '../protocol/requests/rpc.ts';
import type { Signer } from '../protocol/signing.ts';
import { hostAddressesSchema } from './address-options.ts';
import { parseAddress } from './addresses.ts';
import { Bandwidth, type Rates } from './bandwidth.ts';
import { BlobFetcher } from './blobs/fetcher.ts';
import { BlobServer } from './blobs/server.ts';
import { Connections } from './connections.ts';
import { netError } from './errors.ts';
import { Gossip } from './gossip.ts';
import type { HostDeps, HostOptions } from './host-options.ts';
import { createNode, type HostServices } from './libp2p/create.ts';
import { Watchdog } from './libp2p/gossip-watchdog.ts';
import { OtherVersions } from './libp2p/other-versions.ts';
import { streamsOf } from './libp2p/streams.ts';
import { Traffic } from './libp2p/traffic.ts';
import { type NetworkMeter, noMeter } from './meter.ts';
import type {
  FetchBlobOptions,
  GossipHandler,
  MayFetch,
  OtherVersion,
  PeerConnection,
  RpcHandler,
  SubscribeOptions,
  SwarmNetwork,
  UnreachablePeer,
} from './network.ts';
import { PersistentPeers } from './persistent-peers.ts';
import { DialBack } from './reach/dial-back.ts';
import { Reachability } from './reach/reachability.ts';
import { RpcClient } from './rpc/client.ts';
import { RpcServer } from './rpc/server.ts';
import { Shares } from './shares.ts';

const GOSSIP_PROTOCOL_PREFIX = '/meshsub/';

/**
 * Starts a libp2p node with TCP, noise, yamux, gossip, rpc and blobs, and returns it as a SwarmNetwork. Dials
 * persistent peers until they answer.
 * @throws SwarmError USAGE for a wrong address in the options; LISTEN_FAILED
 */
export async function createHost(options: HostOptions, deps: HostDeps): Promise<SwarmNetwork> {
  // Check the addresses here. If an address to announce is wrong, libp2p throws only later, from a timer.
  checkOptions(hostAddressesSchema, options);
  limitYoungGeneration();
  limitHeapGrowth();
  const { clock, identity, meter = noMeter } = deps;
  const traffic = new Traffic();
  const shares = new Shares({ meter });
  const node = await createNode(options, {
    privateKey: identity.privateKey,
    traffic,
    shares,
    clock,
    meter,
  });
  const host = new Host(options, { ...deps, meter, node, traffic, shares });
  await host.start();
  return host;
}

interface Parts {
  node: Libp2p<HostServices>;
  traffic: Traffic;
  shares: Shares;
  meter: NetworkMeter;
}

class Host implements SwarmNetwork {
  readonly signer: Signer;
  readonly #options: HostOptions;
  readonly #deps: HostDeps & Parts;
  readonly #node: Libp2p<HostServices>;
  readonly #connections: Connections;
  readonly #gossip: Gossip;
  readonly #rpcClient: RpcClient;
  readonly #rpcServer: RpcServer;
  readonly #blobServer: BlobServer;
  readonly #blobFetcher: BlobFetcher;
  readonly #persistent: PersistentPeers;
  readonly #otherVersions: OtherVersions;
  readonly #reachability: Reachability;
  readonly #watchdog: Watchdog;
  readonly #bandwidth: Bandwidth;
  readonly #stopped = new AbortController();

  constructor(options: HostOptions, deps: HostDeps & Parts) {
    const { node, blobs, log, clock, random = Math.random, meter, shares } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#node = node;
    this.signer = deps.identity.signer;
    this.#otherVersions = new OtherVersions(node);
    const streams = streamsOf(node);
    const bandwidth = new Bandwidth({ clock, traffic: () => this.traffic() });
    this.#bandwidth = bandwidth;
    this.#connections = new Connections({ node, clock, log, stopped: this.#stopped.signal });
    const networkOf = (peer: string): string => this.networkOf(peer);
    this.#gossip = new Gossip({
      pubsub: node.services.pubsub,
      clock,
      log,
      meter,
      networkOf,
      memory: shares.gossip,
      confidants: options.confidants,
    });
    this.#rpcClient = new RpcClient({ streams, clock, meter });
    this.#rpcServer = new RpcServer({ streams, clock, log, meter, permits: shares.calls });
    this.#blobServer = new BlobServer({
      streams,
      blobs,
      other: deps.other,
      clock,
      log,
      meter,
      ranges: shares.ranges,
      buffers: shares.buffers,
      upload: bandwidth.upload,
      rankOf: (peer) => shares.rankOf(peer),
    });
    const { download } = bandwidth;
    this.#blobFetcher = new BlobFetcher({ streams, blobs, clock, log, meter, download });
    this.#persistent = new PersistentPeers(
      { path: join(options.home, 'peers.json') },
      {
        clock,
        log,
        random,
        dial: (address) => this.connect(address, { signal: this.#stopped.signal }),
        isConnected: (peer) => this.#connections.has(peer),
      },
    );
    this.#reachability = new Reachability(
      { self: this.signer.peerId },
      {
        ...{ clock, log, random, networkOf },
        addresses: () => this.addresses(),
        peers: () => this.peers(),
        request: (peer, body) => this.request(peer, 'reach', body, { signal: this.#stopped.signal }),
        lookup: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
      },
    );
    const { probe } = node.services.addressProbe;
    const isKnown = (peer: string): boolean => shares.isKnown(peer);
    const dialBack = new DialBack({ clock, permits: shares.dialBacks, isKnown, probe });
    this.handle('reach', (peer, body, options) => dialBack.answer(peer, body, options));
    shares.isPersistent = (peer) => this.#persistent.has(peer);
    this.reserveFor(() => false);
    this.#watchdog = new Watchdog(options.watchdog ?? {}, {
      clock,
      log,
      survey: () => this.#surveyGossip(),
      reconnect: (peer) => this.#connections.reconnect(peer),
    });
    this.onPeer(({ type, peer }) => {
      if (type === 'disconnect') this.#persistent.disconnected(peer);
    });
  }

  async start(): Promise<void> {
    // Add the protocols before the node starts, so that identify also sends them to the first peer.
    await Promise.all([this.#rpcServer.start(), this.#blobServer.start()]);
    try {
      await this.#node.start();
    } catch (cause) {
      const listen = this.#options.listen.join(', ');
      const text = cause instanceof Error ? cause.message : String(cause);
      // Keep only the system's reason. libp2p adds a stack, and advice on its own configuration.
      const reason = /\blisten (E[A-Z]+: [^\n]*)/.exec(text)?.[1]?.trim() ?? text;
      throw commonError('LISTEN_FAILED', `could not listen on ${listen}: ${reason}`, { listen }, { cause });
    }
    await this.#persistent.start();
    for (const address of this.#options.bootstrap) this.#persistent.add(address, { save: false });
    this.#watchdog.start();
    if (this.#options.checksReach) this.#reachability.start();
  }

  addresses(): string[] {
    return this.#node.getMultiaddrs().map(String);
  }

  reachability(): AddressReach[] {
    return this.#reachability.view();
  }

  peers(): PeerConnection[] {
    return this.#connections.peers();
  }

  networkOf(peer: string): string {
    return this.#connections.networkOf(peer);
  }

  otherVersions(): OtherVersion[] {
    return this.#otherVersions.list();
  }

  addPersistentPeer(address: string): void {
    parseAddress(address);
    this.#persistent.add(address, { save: true });
  }

  unreachablePeers(): UnreachablePeer[] {
    return this.#persistent.unreachable();
  }

  connect(address: string, { signal }: { signal: AbortSignal }): Promise<string> {
    return this.#connections.connect(address, signal);
  }

  disconnect(peer: string): void {
    this.#connections.disconnect(peer);
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
    return this.#rpcClient.request(peer, method, body, { signal: this.#whileRunning(options.signal) });
  }

  handle<M extends RpcMethod>(method: M, handler: RpcHandler<M>): () => void {
    return this.#rpcServer.handle(method, handler);
  }

  fetchBlob(ref: { digest: string; size: number }, options: FetchBlobOptions): Promise<void> {
    return this.#blobFetcher.fetch(ref, { ...options, signal: this.#whileRunning(options.signal) });
  }

  serveBlobs(mayFetch: MayFetch): void {
    this.#blobServer.mayFetch = mayFetch;
  }

  reserveFor(isKnown: (peer: string) => boolean): void {
    this.#deps.shares.isKnown = (peer) => this.#persistent.has(peer) || isKnown(peer);
  }

  limitBandwidth(rates: Rates): void {
    this.#bandwidth.set(rates);
  }

  traffic(): { sent: number; received: number } {
    return this.#deps.traffic.total();
  }

  onPeer(listener: (event: { type: 'connect' | 'disconnect'; peer: string }) => void): () => void {
    return this.#connections.onPeer(listener);
  }

  async stop(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort(netError('HOST_STOPPED', 'the network was stopped'));
    this.#watchdog.stop();
    this.#reachability.stop();
    await this.#persistent.stop();
    await this.#node.stop();
    this.#blobServer.stop();
  }

  #whileRunning(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#stopped.signal, signal]);
  }

  async #surveyGossip(): Promise<{ peer: string; connectedAt: number; flows: boolean }[]> {
    const survey = this.peers().map(async ({ peer, connectedAt }) => {
      const protocols = await this.#connections.protocolsOf(peer);
      // If identify failed, the protocols of the peer are unknown, and gossipsub has opened no stream. Such a peer
      // counts as supporting gossip, so that the watchdog reconnects it.
      const supportsGossip =
        protocols.length === 0 || protocols.some((name) => name.startsWith(GOSSIP_PROTOCOL_PREFIX));
      return supportsGossip ? [{ peer, connectedAt, flows: this.#gossip.flowsWith(peer) }] : [];
    });
    return (await Promise.all(survey)).flat();
  }
}
