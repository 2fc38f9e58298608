import type { RpcMethod, RpcRequest, RpcResponse } from '../protocol/rpc.ts';
import type { Signer } from '../protocol/signing.ts';

/**
 * The network as the daemons see it: peers by id, gossip topics, requests, blobs. Without libp2p types, so that the
 * simulation can replace it by a virtual network.
 */
export interface SwarmNetwork {
  readonly signer: Signer;
  /** Returns our announced addresses, each ending in /p2p/<peer id>. */
  addresses(): string[];
  /** Lists the peers with an open connection. */
  peers(): PeerConnection[];
  /** Saves an address and stays connected to it, also after restarts. @throws SwarmError CONNECT_FAILED if malformed */
  addPersistentPeer(address: string): void;
  /** Connects to an address. Returns the peer id. @throws SwarmError CONNECT_FAILED, or the signal's reason */
  connect(address: string, options: { signal: AbortSignal }): Promise<string>;

  /** Publishes to all subscribers. Returns the number of peers that it was sent to; 0 is not an error. */
  publish(topic: string, bytes: Uint8Array): Promise<number>;
  /**
   * Subscribes a handler, which judges each message: `accept` forwards it, `ignore` drops it, `reject` also lowers the
   * score of the peer that sent it (only for messages that no honest peer sends). Returns a function that unsubscribes.
   */
  subscribe(topic: string, handler: GossipHandler): () => void;

  /** Calls a method of a peer. @throws SwarmError RPC_TIMEOUT, RPC_UNREACHABLE, RPC_REFUSED (`values.code` from the peer), MESSAGE_* */
  request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>>;
  /**
   * Sets the handler of a method. Its SwarmErrors reach the caller as RPC_REFUSED with their code and message. Returns a
   * function that removes the handler.
   */
  handle<M extends RpcMethod>(
    method: M,
    handler: (peer: string, body: RpcRequest<M>) => Promise<RpcResponse<M>>,
  ): () => void;

  /**
   * Fetches a blob into the local store: missing ranges in parallel from the holders, resuming an earlier attempt, with
   * the digest verified.
   * @throws SwarmError BLOB_UNAVAILABLE (with the reason of each holder), BLOB_CORRUPT, BLOB_SIZE, STORE_FULL
   */
  fetchBlob(ref: { digest: string; size: number }, options: FetchBlobOptions): Promise<void>;

  /** Returns the bytes over all connections since the start. */
  traffic(): { sent: number; received: number };
  /** Calls the listener at the first connection to a peer and after the last one. Returns a function that removes it. */
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
/** `from` is the peer that signed the gossip message, `via` the peer that forwarded it to us. */
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
