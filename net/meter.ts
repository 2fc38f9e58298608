/**
 * Receives measurements of rpc, gossip and blobs, for metrics. Each method returns immediately and never throws. `code`
 * is "ok", "aborted" or an error code. A remote peer chooses some error codes and method names, so the meter has to
 * limit the number of different values.
 */
export interface NetworkMeter {
  /** Called when a call has ended. An `outbound` call is one that we made. `sent` and `received` are payload bytes. */
  rpcCall(call: RpcCall): void;
  /** Called when the number of inbound calls in progress has changed. */
  rpcQueue(inProgress: number): void;
  /** Called when we have published a message, or judged one that arrived. */
  gossipMessage(message: GossipRecord): void;
  /** Called when gossip messages were dropped before their signatures were verified. */
  gossipDropped(reason: GossipDrop, count: number): void;
  /** Called when the number of messages that wait for a verdict has changed. */
  gossipQueue(pending: number): void;
  /** Called when the transfer of a range has ended. An `inbound` range is one that we fetched. */
  blobRange(range: BlobRange): void;
  /** Called when the number of ranges that we are serving has changed. */
  blobQueue(ranges: number): void;
  /** Called when our fetch of a whole blob has ended. */
  blobFetch(fetch: { code: string; seconds: number }): void;
  /** Called when a peer was refused a place in a queue, or lost the place that it had. */
  refusal(refusal: Refusal): void;
}

/** The queues of a host that any peer can enter. */
export type SharedQueue =
  | 'handshakes'
  | 'connections'
  | 'streams'
  | 'calls'
  | 'dial-backs'
  | 'ranges'
  | 'gossip';

export interface Refusal {
  queue: SharedQueue;
  /**
   * `full`: the queue is full and the peer already has its share of places. `withdrawn`: the peer's place went to a
   * peer with a smaller share. `rate`: the peer's address opens connections too fast. `stalled`: the peer made no
   * progress.
   */
  reason: 'full' | 'withdrawn' | 'rate' | 'stalled';
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
  /** Verdict on the message; "published" for our own messages. */
  verdict: 'accept' | 'ignore' | 'reject' | 'published';
  bytes: number;
  /** Inbound: time until our verdict on the message. Outbound: time until the message was handed to the streams. */
  seconds: number;
}

/**
 * Reasons for dropping a gossip message before its signature is verified:
 * `not-subscribed` we do not subscribe to the message's topic
 * `not-admitted`   no handler wants messages of this author
 * `malformed`      the message names no author with an Ed25519 key
 * `too-large`      the message is larger than the limit of its topic
 * `too-many`       the peer that passed the message to us exceeds its quota
 * `low-score`      the gossip score of the peer that passed the message to us is too low
 */
export const gossipDrops = [
  'not-subscribed',
  'not-admitted',
  'malformed',
  'too-large',
  'too-many',
  'low-score',
] as const;
export type GossipDrop = (typeof gossipDrops)[number];

export interface BlobRange {
  direction: 'inbound' | 'outbound';
  code: string;
  bytes: number;
  seconds: number;
}

/** Ignores all measurements. */
export const noMeter: NetworkMeter = {
  rpcCall() {},
  rpcQueue() {},
  gossipMessage() {},
  gossipDropped() {},
  gossipQueue() {},
  blobRange() {},
  blobQueue() {},
  blobFetch() {},
  refusal() {},
};
