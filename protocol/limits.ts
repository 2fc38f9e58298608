/**
 * All size, count and time limits of the wire: unit in the name, reason in the comment. The table in docs/protocol.md is
 * generated from this file.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Updates up to this size travel inside their gossip message; larger ones are announced and fetched by digest. */
export const INLINE_UPDATE_BYTES = 256 * KiB;
/** One gossip message: an inline update and its signed header. A larger one is refused before it is decoded. */
export const GOSSIP_MESSAGE_BYTES = INLINE_UPDATE_BYTES + 8 * KiB;
/** One gossip RPC, which batches messages. A larger one ends the stream, so it must fit every batch of an honest peer. */
export const GOSSIP_RPC_BYTES = 4 * MiB;
/** Bytes that wait in the gossip send buffer of one peer; more end its stream. */
export const GOSSIP_SEND_BUFFER_BYTES = 16 * MiB;
/** Signed messages other than updates; heads with many assignments are the largest. */
export const CONTROL_MESSAGE_BYTES = 128 * KiB;
/** Requests and responses of the rpc protocol; a manifest with many data shards is the largest. */
export const RPC_MESSAGE_BYTES = 512 * KiB;
/** One range of the blob protocol: the flow-control window of a stream, half of its read buffer. */
export const BLOB_RANGE_BYTES = MiB;
/** One frame of a blob answer; the maximum of a yamux frame. */
export const BLOB_FRAME_BYTES = 64 * KiB;
/** Greatest size of a blob: a file of a sharded base model. */
export const BLOB_BYTES = 64 * 1024 * MiB;
/** An update that is fetched by digest: adapters of 8-billion-parameter models at the dense preset stay far below. */
export const UPDATE_BYTES = 64 * MiB;
/** The adapter of a checkpoint in fp32. */
export const ADAPTER_BYTES = 1024 * MiB;

/** Peers that one round may assign work to; bounds the size of a head. */
export const ROUND_PEERS = 512;
/** Jobs that one coordinator runs at a time. */
export const JOBS_PER_COORDINATOR = 64;
/** Base files of a manifest; sharded models have tens. */
export const BASE_FILES = 1000;
/** Data shards of a manifest: 4,096 of 1 MiB is 4 GiB of tokens. */
export const DATA_SHARDS = 4096;
/** One data shard, which nodes decode whole. Fits one row of 131,072 tokens at 10 bytes, the longest that a job allows. */
export const DATA_SHARD_BYTES = 1536 * KiB;

/** Time to answer a request. */
export const RPC_TIMEOUT_MS = 10_000;
/** Longest pause before and within a blob answer. */
export const BLOB_IDLE_TIMEOUT_MS = 10_000;
/** Time to establish a connection; a failed attempt is repeated later. */
export const DIAL_TIMEOUT_MS = 5_000;
/** Interval of a node's heartbeats. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** A node that is silent for this long no longer counts as present: four missed heartbeats and 2 s. */
export const PEER_LOST_AFTER_MS = 4 * HEARTBEAT_INTERVAL_MS + 2_000;
/** Greatest clock difference of a peer; beyond it its messages are stale. */
export const CLOCK_SKEW_MS = 60_000;
/** Updates this many rounds old still count, with weight (1 + rounds)^-1/2. */
export const STALE_ROUNDS = 2;
/** A human-readable detail in a receipt or a refusal. */
export const DETAIL_CHARACTERS = 300;
