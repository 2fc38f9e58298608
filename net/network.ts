import type { BlobProof } from '../protocol/access/job-key.ts';
import type { AddressReach } from '../protocol/api/reach.ts';
import type { RpcMethod, RpcRequest, RpcResponse } from '../protocol/requests/rpc.ts';
import type { Signer } from '../protocol/signing.ts';
import type { ResumableBlobs } from '../storage/blob-store.ts';
import type { Rates } from './bandwidth.ts';

/**
 * The network as the daemons see it: peers by id, gossip topics, requests and blobs. The interface has no libp2p types,
 * so that the simulation can replace libp2p with a virtual network.
 */
export interface SwarmNetwork {
  readonly signer: Signer;
  /** Returns our announced addresses, each ending in /p2p/<peer id>. */
  addresses(): string[];
  /**
   * Lists our announced addresses, each with the result of a dial by another peer, and the other addresses at which
   * peers see this host. Without the option `checksReach` of the host, no address has a result.
   */
  reachability(): AddressReach[];
  /** Lists the peers with an open connection. */
  peers(): PeerConnection[];
  /**
   * Returns the network address of a connected peer: its IPv4 address, or the first 64 bits of its IPv6 address. All
   * peers with one network address get one fair share. Returns the peer id if the peer is not connected.
   */
  networkOf(peer: string): string;
  /**
   * Lists the connected peers that support only other versions of the rpc protocol. Requests between them and us fail.
   */
  otherVersions(): OtherVersion[];
  /**
   * Saves an address, and stays connected to the peer at this address, also after restarts.
   * @throws SwarmError CONNECT_FAILED if the address is malformed
   */
  addPersistentPeer(address: string): void;
  /** Lists the persistent peers that did not answer the newest attempt to connect. */
  unreachablePeers(): UnreachablePeer[];
  /** Connects to an address. Returns the peer id. @throws SwarmError CONNECT_FAILED, or the signal's reason */
  connect(address: string, options: { signal: AbortSignal }): Promise<string>;
  /** Closes all connections to a peer immediately. The peer may connect again. */
  disconnect(peer: string): void;

  /** Publishes to all subscribers. Returns the number of peers that the message was sent to; 0 is not an error. */
  publish(topic: string, bytes: Uint8Array): Promise<number>;
  /**
   * Subscribes a handler, which judges each message. `accept` forwards the message, `ignore` drops it, and `reject`
   * also lowers the score of the peer that sent it. `reject` is only for messages that no honest peer sends. Returns a
   * function that unsubscribes the handler.
   */
  subscribe(topic: string, handler: GossipHandler, options?: SubscribeOptions): () => void;

  /**
   * Calls a method of a peer.
   * @throws SwarmError RPC_TIMEOUT, RPC_UNREACHABLE, RPC_REFUSED (the peer's code is in `values.code`), MESSAGE_*
   */
  request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>>;
  /**
   * Sets the handler of a method. If the handler throws a SwarmError, the caller gets RPC_REFUSED with the code and
   * the message of this error. Returns a function that removes the handler.
   */
  handle<M extends RpcMethod>(method: M, handler: RpcHandler<M>): () => void;

  /**
   * Fetches a blob into the local store. Resumes an earlier attempt, fetches the missing ranges from the holders in
   * parallel, and verifies the digest.
   * @throws SwarmError BLOB_UNAVAILABLE (with the reason of each holder), BLOB_CORRUPT, BLOB_SIZE, STORE_FULL
   */
  fetchBlob(ref: { digest: string; size: number }, options: FetchBlobOptions): Promise<void>;

  /**
   * Sets the rule that decides which peer may fetch which blob of the local store. Until the first call, no peer may
   * fetch any blob. A refused peer gets the same answer as for a blob that does not exist.
   */
  serveBlobs(mayFetch: MayFetch): void;

  /**
   * Reserves a part of every queue that strangers can enter (connections, requests, ranges of blobs) for the peers for
   * which `isKnown` returns true. If the bandwidth is limited, blobs go to these peers before they go to strangers. A
   * persistent peer, such as a node's coordinator, is always known, and gets its blobs first.
   */
  reserveFor(isKnown: (peer: string) => boolean): void;

  /**
   * Limits the traffic from now on. Only blobs wait until the limits allow their bytes. All other bytes are sent at once,
   * but they count too, so later blobs wait longer.
   */
  limitBandwidth(rates: Rates): void;
  /** Returns the bytes sent and received over all connections since the start. */
  traffic(): { sent: number; received: number };
  /**
   * Calls the listener when the first connection to a peer opens and when the last one closes. Returns a function that
   * removes the listener.
   */
  onPeer(listener: (event: { type: 'connect' | 'disconnect'; peer: string }) => void): () => void;
  stop(): Promise<void>;
}

/** A persistent peer that does not answer. */
export interface UnreachablePeer {
  readonly address: string;
  /** Number of consecutive failed attempts to connect to the peer. */
  readonly failures: number;
  /** Error of the newest attempt to connect to the peer. */
  readonly reason: string;
  /** Milliseconds until the next attempt to connect. */
  readonly retryInMs: number;
}

/** A connected peer that supports only other versions of the rpc protocol. */
export interface OtherVersion {
  readonly peer: string;
  /** Name and version of its program, such as "lora-swarm/0.1.0", as the peer says; empty if it says nothing. */
  readonly agent: string;
}

export interface PeerConnection {
  peer: string;
  address: string;
  direction: 'inbound' | 'outbound';
  /** Round-trip time of the last ping in milliseconds; null before the first. */
  rttMs: number | null;
  /** Milliseconds since the Unix epoch. */
  connectedAt: number;
}

/**
 * Answers a call. `ip` is the IP address of the connection on which the call arrived; null if it is relayed. The signal
 * aborts when the answer is no longer wanted, because the time limit has passed or the call's place in the queue was
 * given to another address. A handler that waits must stop waiting then.
 */
export type RpcHandler<M extends RpcMethod> = (
  peer: string,
  body: RpcRequest<M>,
  options: { signal: AbortSignal; ip: string | null },
) => Promise<RpcResponse<M>>;

export type GossipVerdict = 'accept' | 'ignore' | 'reject';
/** `from` is the peer that signed the gossip message, `via` the peer that forwarded it to us. */
export type GossipHandler = (message: {
  from: string;
  via: string;
  data: Uint8Array;
}) => GossipVerdict | Promise<GossipVerdict>;

export interface SubscribeOptions {
  /**
   * Returns whether the handler wants messages of an author. Called before the signature is verified, so the author may
   * be forged. Messages of other authors are dropped and not forwarded. @default accepts all authors
   */
  readonly admits?: (author: string) => boolean;
  /** Whether accepted messages are forwarded to other subscribers. @default true */
  readonly forwards?: boolean;
}

/**
 * Returns whether a peer may fetch a blob. `proof` shows that the peer is admitted to a job. `proof` is null
 * if the peer sent no proof.
 */
export type MayFetch = (peer: string, digest: string, proof: BlobProof | null) => boolean;

/** Blobs of another store that a host serves in addition to its own blobs. */
export interface OtherBlobs extends Pick<ResumableBlobs, 'reader'> {
  /** Returns whether a peer may fetch a blob of this store. */
  mayFetch: MayFetch;
}

export interface FetchBlobOptions {
  holders: readonly string[];
  /** Returns a proof, made for one holder, that we are admitted to the job of the blob. @default sends no proof */
  prove?: (holder: string) => BlobProof;
  /**
   * Whether to fetch the blob even if the local store has it. Holders then cannot find out whether the store has the
   * blob, and the fetch succeeds only if a holder has the blob. @default false
   */
  again?: boolean;
  /**
   * Name of the group of holders that supply the blob. The ranges of an unfinished fetch are resumed only by fetches with
   * the same name, so holders of different groups never supply parts of one copy. The name becomes a part of a file
   * name. @default all fetches without a name share their ranges
   */
  origin?: string;
  /** Store that gets the blob. @default the local store */
  into?: ResumableBlobs;
  signal: AbortSignal;
  /** Called after each range that is stored. */
  onProgress?: (progress: { bytes: number; total: number }) => void;
  /** Called whenever bytes have arrived, at least after each frame of 64 KiB. */
  onArrival?: () => void;
}
