/**
 * All limits of the protocol on sizes, counts and times. A name ends with its unit, and its comment gives the reason. The
 * table in docs/protocol.md is generated from this file.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Maximum size of a payload inside a gossip message. The receiver fetches a larger payload as a blob. */
export const INLINE_UPDATE_BYTES = 256 * KiB;
/** Maximum size of a gossip message: an inline payload and its signed fields. Checked before the message is decoded. */
export const GOSSIP_MESSAGE_BYTES = INLINE_UPDATE_BYTES + 8 * KiB;
/** Maximum size of a gossip RPC, which is a batch of messages. The receiver ends the stream after a larger RPC. */
export const GOSSIP_RPC_BYTES = 4 * MiB;
/** Maximum number of bytes that wait to be sent to a peer over gossip. If more bytes wait, the stream ends. */
export const GOSSIP_SEND_BUFFER_BYTES = 16 * MiB;
/** Maximum size of the body of a head or a checkpoint. A head of a full round, with 512 assignments, needs the most. */
export const CONTROL_MESSAGE_BYTES = 128 * KiB;
/** Maximum size of a request or answer of the rpc protocol. An answer with the manifest of a large job needs the most. */
export const RPC_MESSAGE_BYTES = 512 * KiB;
/** Maximum size of the range of one blob request. The flow-control window of a stream has the same size. */
export const BLOB_RANGE_BYTES = MiB;
/** Maximum size of a frame of a blob answer. Each frame counts as progress, so a slow answer does not time out. */
export const BLOB_FRAME_BYTES = 64 * KiB;
/** Maximum size of a blob. The largest blobs are files of sharded base models. */
export const BLOB_BYTES = 64 * 1024 * MiB;
/** Maximum size of the payload of an update. Dense updates for models of 8 billion parameters are far smaller. */
export const UPDATE_BYTES = 64 * MiB;
/** Maximum size of the adapter of a checkpoint, in float32. */
export const ADAPTER_BYTES = 1024 * MiB;
/** Maximum size of a stored residual: a checksum and a layout digest, followed by values of the adapter's size. */
export const RESIDUAL_BYTES = ADAPTER_BYTES + 64;

/** Maximum number of nodes that one round assigns work to. This limit bounds the size of a head. */
export const ROUND_PEERS = 512;
/** Maximum number of jobs that one coordinator runs at a time. */
export const JOBS_PER_COORDINATOR = 64;
/** Maximum priority of a job. The minimum is −1,000. No more levels are needed, because at most 64 jobs can run. */
export const MAX_PRIORITY = 1000;
/** Maximum number of base files of a manifest. Sharded models have tens of files. */
export const BASE_FILES = 1000;
/** Maximum number of parameters of a base. The largest open models have about 10¹². */
export const BASE_PARAMETERS = 4e12;
/** Maximum number of tokens of a row: the longest context of common models. */
export const SEQUENCE_TOKENS = 131_072;
/** Maximum number of data shards of a manifest. 4,096 shards of 1 MiB hold 4 GiB of packed rows. */
export const DATA_SHARDS = 4096;
/** Maximum number of data rows of a manifest. The permutation of a round numbers the rows with 32 bits. */
export const DATA_ROWS = 2 ** 32;
/** Maximum length of a chat template. The longest published templates have about 20,000 characters. */
export const CHAT_TEMPLATE_CHARACTERS = 128 * KiB;
/** Maximum size of a data shard, which a node decodes as a whole. The longest row (131,072 tokens of 10 bytes) fits. */
export const DATA_SHARD_BYTES = 1536 * KiB;

/** Maximum number of rows in a batch of the request `measure`. No score is measured on more rows. */
export const MEASURED_ROWS = 64;
/**
 * Maximum number of batches in one request `measure`: four batches of random rows, and one batch of rows from
 * the interval of the update's author.
 */
export const MEASURED_BATCHES = 5;
/** Maximum number of earlier shares of an author in figures. The belief in a node is computed from this many shares. */
export const EARLIER_SHARES = 3;

/**
 * Maximum size of the questions of an evaluation, because two processes of the coordinator and two of the scorer hold them
 * in memory. 10,000 prompts of 6,000 characters fit.
 */
export const QUESTIONS_BYTES = 64 * MiB;
/**
 * Maximum number of values in the questions of an evaluation, including arrays and keys. A document with four
 * continuations has 7 values. Without this limit, 64 MiB of tiny values would take several GiB of memory.
 */
export const QUESTION_ITEMS = 1_000_000;
/**
 * Maximum size of the answers to the questions of an evaluation. 1,000,000 log-probabilities of continuations take 34
 * MB.
 */
export const ANSWERS_BYTES = 64 * MiB;

/**
 * Maximum number of checkpoints, of receipts, and of changes of settings in an answer to `recall`. A node keeps at most
 * this many changes of settings for each job.
 */
export const RECALLED_MESSAGES = 64;
/** Maximum number of proofs in an answer to the request `record`. Each takes about 1.5 KiB, and at most 5 KiB. */
export const PROOFS_PER_ANSWER = 64;

/**
 * Lowest speed of a connection at which requests and ranges of blobs arrive in time, in bytes per second. Longer
 * transfers get more time in proportion to their size.
 */
export const SLOWEST_BYTES_PER_SECOND = 16 * KiB;
/**
 * Maximum time to answer a request, without the time in which a slow connection transfers the request and the answer.
 * Each of the two transfers may also pause for this time.
 */
export const RPC_TIMEOUT_MS = 10_000;
/** Maximum pause before the answer to a blob request, and between the frames of the answer. */
export const BLOB_IDLE_TIMEOUT_MS = 10_000;
/** Maximum time to establish a connection. A failed attempt is repeated later. */
export const DIAL_TIMEOUT_MS = 5_000;
/**
 * Maximum number of ports in a request `reach`. A machine has one port, or two if its router forwards another port. A
 * request causes so few dials that it is useless for a search for open ports.
 */
export const REACH_PORTS = 4;
/** Time between two heartbeats of a node. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** Time without a heartbeat (five intervals of 2 s) after which a node no longer counts as present. */
export const PEER_LOST_AFTER_MS = 4 * HEARTBEAT_INTERVAL_MS + 2_000;
/**
 * Maximum clock difference between node and coordinator. If the difference is larger, joins are refused and
 * heartbeats are ignored.
 */
export const CLOCK_SKEW_MS = 60_000;
/**
 * Maximum number of rounds by which an update may be late. The weight of a late update is divided by √(1 +
 * rounds late).
 */
export const STALE_ROUNDS = 2;
/** Maximum length of a text for people in a head, a receipt or a refusal. */
export const DETAIL_CHARACTERS = 300;
