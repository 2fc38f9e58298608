/**
 * All limits of the protocol on sizes, counts and times. A name ends with its unit, and its comment gives the reason. The
 * table in docs/protocol.md is generated from this file.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Largest payload inside a gossip message. The receiver fetches a larger one as a blob, by the digest in the message. */
export const INLINE_UPDATE_BYTES = 256 * KiB;
/** Largest gossip message: an inline update and its signed fields. A larger one is refused before it is decoded. */
export const GOSSIP_MESSAGE_BYTES = INLINE_UPDATE_BYTES + 8 * KiB;
/** Largest gossip RPC, which holds a batch of messages. A larger RPC ends the stream, so every honest batch must fit. */
export const GOSSIP_RPC_BYTES = 4 * MiB;
/** Largest number of bytes that wait to be sent to a peer over gossip. If more wait, the stream ends. */
export const GOSSIP_SEND_BUFFER_BYTES = 16 * MiB;
/** Largest body of a head or a checkpoint. The largest such body is a head with many assignments. */
export const CONTROL_MESSAGE_BYTES = 128 * KiB;
/** Largest request or answer of the rpc protocol. The largest is an answer with a manifest of many data shards. */
export const RPC_MESSAGE_BYTES = 512 * KiB;
/** Largest range of one blob request. A stream's flow-control window has this size, and its read buffer twice this size. */
export const BLOB_RANGE_BYTES = MiB;
/** Largest frame of a blob answer. The receiver notes progress after each frame, so a slow answer does not time out. */
export const BLOB_FRAME_BYTES = 64 * KiB;
/** Largest blob. The largest blobs are files of sharded base models. */
export const BLOB_BYTES = 64 * 1024 * MiB;
/** Largest payload of an update. Dense updates for models of 8 billion parameters stay far below this limit. */
export const UPDATE_BYTES = 64 * MiB;
/** Largest adapter of a checkpoint, in float32. */
export const ADAPTER_BYTES = 1024 * MiB;

/** Largest number of nodes that one round assigns work to. This limits the size of a head. */
export const ROUND_PEERS = 512;
/** Largest number of jobs that one coordinator runs at a time. */
export const JOBS_PER_COORDINATOR = 64;
/** Largest priority of a job. The lowest is the negative of it. So few levels are enough, because 64 jobs can run. */
export const MAX_PRIORITY = 1000;
/** Largest number of base files of a manifest. Sharded models have tens of files. */
export const BASE_FILES = 1000;
/** Largest number of data shards of a manifest. 4,096 shards of 1 MiB hold 4 GiB of packed rows. */
export const DATA_SHARDS = 4096;
/** Largest data shard. A node decodes a shard as a whole. The longest row (131,072 tokens of 10 bytes) fits in one. */
export const DATA_SHARD_BYTES = 1536 * KiB;

/** Largest number of rows in a batch of the request `measure`. The gain of an update is measured on at most 64 rows. */
export const MEASURED_ROWS = 64;
/** Largest number of batches in one request `measure`: four of random rows, and one of an author's rows. */
export const MEASURED_BATCHES = 5;

/** Longest time to answer a request. */
export const RPC_TIMEOUT_MS = 10_000;
/** Longest pause before and within a blob answer. */
export const BLOB_IDLE_TIMEOUT_MS = 10_000;
/** Longest time to establish a connection. A failed attempt is repeated later. */
export const DIAL_TIMEOUT_MS = 5_000;
/** Time between two heartbeats of a node. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** Time without a heartbeat (five intervals of 2 s) after which a node no longer counts as present. */
export const PEER_LOST_AFTER_MS = 4 * HEARTBEAT_INTERVAL_MS + 2_000;
/** Largest clock difference between node and coordinator. Above it, joins are refused and heartbeats ignored. */
export const CLOCK_SKEW_MS = 60_000;
/** Largest number of rounds by which an update may be late. Its weight is multiplied by (1 + rounds late)^-1/2. */
export const STALE_ROUNDS = 2;
/** Longest human-readable text in a head, a receipt or a refusal. */
export const DETAIL_CHARACTERS = 300;
