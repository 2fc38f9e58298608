/**
 * Every size, count and time limit of the wire, in one place: unit in the name, reason beside it.
 * docs/protocol.md is the prose version of this file.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Updates up to this size travel inside their gossip message; larger ones are announced and pulled by digest. */
export const INLINE_UPDATE_BYTES = 256 * KiB;
/** One gossip message: an inline update and its signed header. Everything larger is refused unread. */
export const GOSSIP_MESSAGE_BYTES = INLINE_UPDATE_BYTES + 8 * KiB;
/** One gossip RPC batches several messages; a larger one is refused and ends the stream, so it must hold any honest batch. */
export const GOSSIP_RPC_BYTES = 4 * MiB;
/** What one peer may leave waiting in our gossip send buffer before its stream is given up. */
export const GOSSIP_SEND_BUFFER_BYTES = 16 * MiB;
/** Signed messages other than updates (heads with many assignments are the largest). */
export const CONTROL_MESSAGE_BYTES = 128 * KiB;
/** Requests and responses of the rpc protocol; a manifest with many data shards is the largest. */
export const RPC_MESSAGE_BYTES = 512 * KiB;
/** One range of the blob protocol: as much as a stream's flow-control window, half of what its read buffer holds. */
export const BLOB_RANGE_BYTES = MiB;
/** One frame of a blob answer; yamux frames carry at most this much. */
export const BLOB_FRAME_BYTES = 64 * KiB;
/** A blob's greatest size: a sharded base model's file. */
export const BLOB_BYTES = 64 * 1024 * MiB;
/** An update that is announced and pulled: 8-billion-parameter adapters at the dense preset stay far below. */
export const UPDATE_BYTES = 64 * MiB;
/** A checkpoint's adapter in fp32. */
export const ADAPTER_BYTES = 1024 * MiB;

/** Peers that one round may assign work to; bounds a head's size. */
export const ROUND_PEERS = 512;
/** Jobs that one coordinator runs at a time. */
export const JOBS_PER_COORDINATOR = 64;
/** Base files of a manifest: sharded models have tens. */
export const BASE_FILES = 1000;
/** Data shards of a manifest: 4,096 of 1 MiB is 4 GiB of tokens. */
export const DATA_SHARDS = 4096;
/** One data shard, which nodes decode whole: a row of 131,072 tokens at 10 bytes, the most that a job allows. */
export const DATA_SHARD_BYTES = 1536 * KiB;

/** A request must be answered within this time unless its method says otherwise. */
export const RPC_TIMEOUT_MS = 10_000;
/** A blob answer must begin, and must go on, within this time. */
export const BLOB_IDLE_TIMEOUT_MS = 10_000;
/** A host that does not answer a connection attempt by then is tried again later. */
export const DIAL_TIMEOUT_MS = 5_000;
/** A node says that it is alive this often; four missed ones and it no longer counts as present. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** Silent for this long, a node no longer counts as present. */
export const PEER_LOST_AFTER_MS = 4 * HEARTBEAT_INTERVAL_MS + 2_000;
/** How far a peer's clock may be off before its messages are called stale. */
export const CLOCK_SKEW_MS = 60_000;
/** Updates this many rounds old still count, with weight (1 + rounds)^-1/2. */
export const STALE_ROUNDS = 2;
/** A human-readable detail inside a receipt or a refusal. */
export const DETAIL_CHARACTERS = 300;
