/**
 * Receives measurements of rpc, gossip and blobs, for metrics. Each method returns at once and never throws. `code` is "ok"
 * or an error code; the codes of a remote peer and the names of unknown methods come from that peer, so the observer has
 * to bound them.
 */
export interface NetworkObserver {
  /** A call has ended: `outbound` is a call of ours. `sent` and `received` are payload bytes. */
  rpcCall(call: RpcCall): void;
  /** Calls of other peers in progress here. */
  rpcQueue(inProgress: number): void;
  /** We published a message, or judged one that arrived. */
  gossipMessage(message: GossipRecord): void;
  /** Messages that wait for a verdict. */
  gossipQueue(pending: number): void;
  /** The transfer of a range has ended: `inbound` is a range that we fetch. */
  blobRange(range: BlobRange): void;
  /** Ranges being served. */
  blobQueue(ranges: number): void;
  /** A fetch of a whole blob has ended. */
  blobFetch(fetch: { code: string; seconds: number }): void;
}

export interface RpcCall {
  method: string;
  direction: 'inbound' | 'outbound';
  code: string;
  seconds: number;
  sent: number;
  received: number;
}

export interface GossipRecord {
  channel: string;
  direction: 'inbound' | 'outbound';
  /** "published" for our own messages. */
  verdict: 'accept' | 'ignore' | 'reject' | 'published';
  bytes: number;
  /** Time until the verdict, or until the message was handed to the streams. */
  seconds: number;
}

export interface BlobRange {
  direction: 'inbound' | 'outbound';
  code: string;
  bytes: number;
  seconds: number;
}

/** Ignores all measurements. */
export const noObserver: NetworkObserver = {
  rpcCall() {},
  rpcQueue() {},
  gossipMessage() {},
  gossipQueue() {},
  blobRange() {},
  blobQueue() {},
  blobFetch() {},
};
