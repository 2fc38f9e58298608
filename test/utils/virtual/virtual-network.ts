import { isSwarmError, SwarmError } from '../../../common/errors.ts';
import { withDeadline } from '../../../common/time/deadline.ts';
import type {
  FetchBlobOptions,
  GossipHandler,
  MayFetch,
  OtherVersion,
  PeerConnection,
  RpcHandler,
  SubscribeOptions,
  SwarmNetwork,
} from '../../../net/network.ts';
import { RPC_TIMEOUT_MS } from '../../../protocol/limits.ts';
import {
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
  rpcMethods,
} from '../../../protocol/requests/rpc.ts';
import type { Signer } from '../../../protocol/signing.ts';
import type { BlobStore } from '../../../storage/blobs.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { VirtualClock } from './virtual-clock.ts';

export interface NetworkWeather {
  /** Minimum and maximum delay of a message, in ms. */
  delayMs: [number, number];
  /** Share of messages, requests and blob ranges that are lost. */
  loss: number;
  /** Share of gossip that arrives twice. */
  duplicates: number;
}

/** Maximum pause before a lost connection is dialled again, in ms. */
const REDIAL_MS = 1_000;

/** The network of a simulated swarm: all hosts, and the delays and losses of their messages. */
export class VirtualNetwork {
  readonly weather: NetworkWeather;
  /** Called for each published or submitted message, whether it arrives or not. */
  onMessage: (message: { from: string; kind: string; bytes: Uint8Array }) => void = () => {};
  /** Gossip that an honest receiver rejected from an honest sender. Must stay empty. */
  readonly rejected: string[] = [];
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly #hosts = new Map<string, VirtualHost>();
  readonly #cut = new Set<string>();

  constructor(weather: NetworkWeather, deps: { clock: VirtualClock; random: SeededRandom }) {
    this.weather = weather;
    this.clock = deps.clock;
    this.random = deps.random;
  }

  /** Starts a host. An earlier host with the same identity must be down. */
  host(deps: { signer: Signer; blobs: BlobStore; isAlive: () => boolean }): VirtualHost {
    const host = new VirtualHost({ ...deps, network: this });
    this.#hosts.set(deps.signer.peerId, host);
    return host;
  }

  /** Removes a host. The others notice. */
  down(peer: string): void {
    const gone = this.#hosts.get(peer);
    if (!gone) return;
    this.#hosts.delete(peer);
    for (const other of this.#hosts.values()) other.disconnected(peer);
  }

  /** Cuts a host off from all others, until the returned function is called. */
  isolate(peer: string): () => void {
    this.#cut.add(peer);
    const host = this.#hosts.get(peer);
    for (const [other, end] of this.#hosts) {
      if (other === peer) continue;
      end.disconnected(peer);
      host?.disconnected(other);
    }
    return () => this.#cut.delete(peer);
  }

  reach(from: string, to: string): VirtualHost | null {
    if (this.#cut.has(from) || this.#cut.has(to)) return null;
    return this.#hosts.get(to) ?? null;
  }

  hosts(): Iterable<VirtualHost> {
    return this.#hosts.values();
  }

  delay(): number {
    const [low, high] = this.weather.delayMs;
    return this.random.between(low, high);
  }

  lost(): boolean {
    return this.random.chance(this.weather.loss);
  }
}

type Handler = (peer: string, body: unknown, options: { signal: AbortSignal; ip: null }) => Promise<unknown>;

/** The network of one process. After the process dies it sends and receives nothing, and none of its promises settles. */
export class VirtualHost implements SwarmNetwork {
  readonly signer: Signer;
  readonly #network: VirtualNetwork;
  readonly #blobs: BlobStore;
  readonly #isAlive: () => boolean;
  readonly #connections = new Map<string, number>();
  readonly #kept = new Set<string>();
  readonly #topics = new Map<string, Set<{ handler: GossipHandler; admits: (author: string) => boolean }>>();
  /** The network address, which it may share with other hosts. @default one of its own */
  address: string;
  /** Maximum time of a call that this host makes, in milliseconds; null for no limit. */
  callMs: number | null = null;
  /** Number of gossip messages dropped because no handler admits their author. */
  notAdmitted = 0;
  readonly #methods = new Map<string, Handler>();
  #mayFetch: MayFetch = () => false;
  readonly #listeners = new Set<(event: { type: 'connect' | 'disconnect'; peer: string }) => void>();

  constructor(deps: { signer: Signer; blobs: BlobStore; isAlive: () => boolean; network: VirtualNetwork }) {
    this.signer = deps.signer;
    this.#blobs = deps.blobs;
    this.#isAlive = deps.isAlive;
    this.#network = deps.network;
    this.address = deps.signer.peerId;
  }

  get peer(): string {
    return this.signer.peerId;
  }

  get alive(): boolean {
    return this.#isAlive();
  }

  addresses(): string[] {
    return [addressOf(this.peer)];
  }

  peers(): PeerConnection[] {
    return [...this.#connections].map(([peer, connectedAt]) => ({
      peer,
      address: addressOf(peer),
      direction: 'outbound',
      rttMs: 1,
      connectedAt,
    }));
  }

  /** Peers that the host takes for peers of another version. */
  readonly others: OtherVersion[] = [];

  otherVersions(): OtherVersion[] {
    return this.others;
  }

  networkOf(peer: string): string {
    return this.#network.reach(this.peer, peer)?.address ?? peer;
  }

  addPersistentPeer(address: string): void {
    const peer = peerOf(address);
    if (this.#kept.has(peer)) return;
    this.#kept.add(peer);
    this.#redial(peer);
  }

  async connect(address: string, { signal }: { signal: AbortSignal }): Promise<string> {
    const peer = peerOf(address);
    await this.#wait(this.#network.delay(), signal);
    const other = this.#network.reach(this.peer, peer);
    if (!other) throw new SwarmError('CONNECT_FAILED', `no answer at ${address}`, { address });
    this.connected(peer);
    other.connected(this.peer);
    return peer;
  }

  disconnect(peer: string): void {
    this.disconnected(peer);
    this.#network.reach(this.peer, peer)?.disconnected(this.peer);
  }

  publish(topic: string, bytes: Uint8Array): Promise<number> {
    return this.relay(topic, bytes, this.peer);
  }

  /** Hands over a message that another peer published. */
  async relay(topic: string, bytes: Uint8Array, from: string): Promise<number> {
    if (!this.#isAlive()) return 0;
    this.#network.onMessage({ from: this.peer, kind: topic.slice(topic.lastIndexOf('/') + 1), bytes });
    let handed = 0;
    for (const host of [...this.#network.hosts()]) {
      if (!this.#connections.has(host.peer) || !host.#topics.has(topic)) continue;
      handed++;
      const copies = this.#network.random.chance(this.#network.weather.duplicates) ? 2 : 1;
      for (let copy = 0; copy < copies; copy++)
        this.#send(host.peer, (to) => to.#receive(topic, bytes, { from, via: this.peer }));
    }
    return handed;
  }

  subscribe(topic: string, handler: GossipHandler, options: SubscribeOptions = {}): () => void {
    const all = this.#topics.get(topic) ?? new Set();
    const subscription = { handler, admits: options.admits ?? (() => true) };
    this.#topics.set(topic, all.add(subscription));
    return () => {
      all.delete(subscription);
      if (all.size === 0) this.#topics.delete(topic);
    };
  }

  async request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>> {
    if (this.callMs === null) return this.#request(peer, method, body, options);
    // The timer of a dead process does not fire.
    const clock = this.#network.clock.process(() => this.#isAlive());
    const limits = { clock, ms: this.callMs, signal: options.signal, what: method };
    return withDeadline(limits, (signal) => this.#request(peer, method, body, { signal })).catch((error) => {
      if (!isSwarmError(error, 'DEADLINE_EXCEEDED') || error.values.what !== method) throw error;
      throw new SwarmError('RPC_TIMEOUT', `${peer} did not answer in time`, { peer });
    });
  }

  async #request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    { signal }: { signal: AbortSignal },
  ): Promise<RpcResponse<M>> {
    const question = rpcMethods[method].request.parse(body);
    if ('update' in question && question.update instanceof Uint8Array) {
      this.#network.onMessage({ from: this.peer, kind: 'submit', bytes: question.update });
    }
    await this.#travel(peer, signal);
    const host = this.#network.reach(this.peer, peer)!;
    const answer = await host.#answer(this.peer, method, question, signal).catch((cause: unknown) => {
      if (!isSwarmError(cause)) throw cause;
      throw new SwarmError('RPC_REFUSED', cause.message, { ...cause.values, code: cause.code }, { cause });
    });
    await this.#travel(peer, signal);
    return rpcMethods[method].response.parse(answer) as RpcResponse<M>;
  }

  handle<M extends RpcMethod>(method: M, handler: RpcHandler<M>): () => void {
    this.#methods.set(method, handler as Handler);
    return () => {
      if (this.#methods.get(method) === handler) this.#methods.delete(method);
    };
  }

  reserveFor(): void {}

  serveBlobs(mayFetch: MayFetch): void {
    this.#mayFetch = mayFetch;
  }

  async fetchBlob(
    { digest, size }: { digest: string; size: number },
    { holders, prove, again, into, signal, onProgress }: FetchBlobOptions,
  ): Promise<void> {
    const blobs = into ?? this.#blobs;
    if (!again && (await blobs.has(digest))) return;
    for (const holder of holders) {
      try {
        await this.#travel(holder, signal);
        const other = this.#network.reach(this.peer, holder)!;
        if (!other.#mayFetch(this.peer, digest, prove?.(holder) ?? null)) {
          throw new SwarmError('BLOB_MISSING', 'no such blob', {});
        }
        const bytes = await other.#blobs.get(digest, { maxBytes: size });
        await this.#travel(holder, signal);
        await blobs.put(bytes);
        onProgress?.({ bytes: size, total: size });
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!isSwarmError(error) || error.code === 'STORE_FULL') throw error;
      }
    }
    throw new SwarmError('BLOB_UNAVAILABLE', `none of ${holders.length} holders gave ${digest}`, { digest });
  }

  reachability(): [] {
    return [];
  }

  unreachablePeers(): [] {
    return [];
  }

  limitBandwidth(): void {}

  traffic(): { sent: number; received: number } {
    return { sent: 0, received: 0 };
  }

  onPeer(listener: (event: { type: 'connect' | 'disconnect'; peer: string }) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    this.#network.down(this.peer);
  }

  connected(peer: string): void {
    if (this.#connections.has(peer)) return;
    this.#connections.set(peer, this.#network.clock.now());
    this.#tell('connect', peer);
  }

  disconnected(peer: string): void {
    if (!this.#connections.delete(peer)) return;
    this.#tell('disconnect', peer);
    if (this.#kept.has(peer)) this.#redial(peer);
  }

  #tell(type: 'connect' | 'disconnect', peer: string): void {
    this.#network.clock.after(0, () => {
      if (this.#isAlive()) for (const listener of [...this.#listeners]) listener({ type, peer });
    });
  }

  #redial(peer: string): void {
    this.#network.clock.after(this.#network.random.between(0, REDIAL_MS), () => {
      if (!this.#isAlive() || this.#connections.has(peer)) return;
      this.connect(addressOf(peer), { signal: new AbortController().signal }).catch(() => this.#redial(peer));
    });
  }

  /** Delivers a message after a delay. A message of a process that has died meanwhile arrives half the time. */
  #send(to: string, deliver: (host: VirtualHost) => void): void {
    if (!this.#isAlive() || this.#network.lost()) return;
    this.#network.clock.after(this.#network.delay(), () => {
      const host = this.#network.reach(this.peer, to);
      if (!host?.alive || (!this.#isAlive() && this.#network.random.chance(0.5))) return;
      deliver(host);
    });
  }

  #receive(topic: string, data: Uint8Array, { from, via }: { from: string; via: string }): void {
    for (const { handler, admits } of [...(this.#topics.get(topic) ?? [])]) {
      if (!admits(from)) {
        this.notAdmitted++;
        continue;
      }
      Promise.resolve(handler({ from, via, data })).then((verdict) => {
        if (verdict === 'reject') this.#network.rejected.push(`${topic} from ${from} at ${this.peer}`);
      });
    }
  }

  async #answer(from: string, method: RpcMethod, body: unknown, signal: AbortSignal): Promise<unknown> {
    const handler = this.#methods.get(method);
    if (!handler) throw new SwarmError('RPC_METHOD_UNKNOWN', `no handler for ${method}`, { method });
    return handler(from, body, { signal, ip: null });
  }

  /** Waits for as long as a message to or from a peer takes. @throws SwarmError RPC_UNREACHABLE, RPC_TIMEOUT */
  async #travel(peer: string, signal: AbortSignal): Promise<void> {
    const lost = this.#network.lost();
    await this.#wait(lost ? RPC_TIMEOUT_MS : this.#network.delay(), signal);
    if (lost) throw new SwarmError('RPC_TIMEOUT', `${peer} did not answer in time`, { peer });
    if (!this.#connections.has(peer) || !this.#network.reach(this.peer, peer)?.alive) {
      throw new SwarmError('RPC_UNREACHABLE', `no connection to ${peer}`, { peer });
    }
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const onAbort = (): void => {
        if (this.#isAlive()) reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#network.clock.after(ms, () => {
        signal.removeEventListener('abort', onAbort);
        if (this.#isAlive()) resolve();
      });
    });
  }
}

export function addressOf(peer: string): string {
  return `/memory/1/p2p/${peer}`;
}

function peerOf(address: string): string {
  return address.slice(address.lastIndexOf('/') + 1);
}
