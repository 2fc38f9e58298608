import type { RpcMethod, RpcRequest, RpcResponse } from '../protocol/rpc.ts';
import type { Signer } from '../protocol/signing.ts';

/**
 * What the daemons see of the network: peers by id, gossip topics, requests, blobs. No libp2p type passes
 * through here, so that the simulation can put a virtual network in its place.
 */
export interface SwarmNetwork {
  readonly signer: Signer;
  /** Own addresses that others can dial, each ending in /p2p/<peer id>. */
  addresses(): string[];
  /** Peers with an open connection. */
  peers(): PeerConnection[];
  /** Remembers an address for ever and keeps trying to stay connected to it. */
  addPersistentPeer(address: string): void;
  /** Resolves when a connection to the peer is open. */
  connect(address: string, options: { signal: AbortSignal }): Promise<string>;

  /** Sends to all subscribers; resolves with the number of peers it was handed to (0 is not an error). */
  publish(topic: string, bytes: Uint8Array): Promise<number>;
  /**
   * The handler judges each message: `accept` passes it on, `ignore` drops it, `reject` also costs the peer that
   * sent it its reputation (only for what an honest peer can never send). Returns a function that unsubscribes.
   */
  subscribe(topic: string, handler: GossipHandler): () => void;

  /** @throws SwarmError RPC_TIMEOUT, RPC_UNREACHABLE, RPC_REFUSED (the peer's own code in `values.code`), MESSAGE_* */
  request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>>;
  /** A handler's SwarmError reaches the caller as RPC_REFUSED with its code and message. */
  handle<M extends RpcMethod>(
    method: M,
    handler: (peer: string, body: RpcRequest<M>) => Promise<RpcResponse<M>>,
  ): () => void;

  /**
   * Makes a blob present in the local store, pulling what is missing from the holders in parallel ranges, resuming
   * what an earlier call left, and verifying the digest.
   * @throws SwarmError BLOB_UNAVAILABLE (which holders said what), BLOB_CORRUPT, BLOB_SIZE, STORE_FULL
   */
  fetchBlob(ref: { digest: string; size: number }, options: FetchBlobOptions): Promise<void>;

  /** Bytes over all connections since the start, for metrics. */
  traffic(): { sent: number; received: number };
  onPeer(listener: (event: { type: 'connect' | 'disconnect'; peer: string }) => void): () => void;
  stop(): Promise<void>;
}

export interface PeerConnection {
  peer: string;
  address: string;
  direction: 'inbound' | 'outbound';
  /** Round-trip time of the last ping in milliseconds; null before the first. */
  rttMs: number | null;
  connectedAt: number;
}

export type GossipVerdict = 'accept' | 'ignore' | 'reject';
/** `from` is the peer that signed the gossip message, `via` the one that handed it to us. */
export type GossipHandler = (message: {
  from: string;
  via: string;
  data: Uint8Array;
}) => GossipVerdict | Promise<GossipVerdict>;

export interface FetchBlobOptions {
  holders: readonly string[];
  signal: AbortSignal;
  onProgress?: (progress: { bytes: number; total: number }) => void;
}
