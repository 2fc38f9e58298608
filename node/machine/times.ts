import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import { callTimeoutMs } from '../../protocol/requests/rpc.ts';

/**
 * Time without a new head after which the node asks for the newest head. Each head is announced once, and gossip may
 * lose the announcement.
 */
export const HEAD_SILENCE_MS = 10_000;
/**
 * Time after which the node asks for the newest head when a head older than its own arrives. A head that gossip has
 * delayed is harmless. But a coordinator that was restored from an old backup also signs such heads. It must learn
 * about the later head of the node before it has signed more heads than it had lost. Old heads cause at most one such
 * request in HEAD_SILENCE_MS.
 */
export const OLD_HEAD_POLL_MS = 1_000;
/**
 * Milliseconds that the node waits for a receipt before it asks for the receipt, because the update or the
 * receipt may be lost. Normally, the receipt of a small update arrives after one round trip and one fsync,
 * which take far less.
 */
export const RECEIPT_WAIT_MS = 3_000;
/** Time without an answer after which the node asks for a receipt again. */
export const ASK_AGAIN_MS = RPC_TIMEOUT_MS + 1_000;
/**
 * Time without an answer to the request `submit` after which the node asks for the receipt again. On a slow connection,
 * the update may take long, and sending it a second time would slow down the first transfer.
 */
export const SUBMIT_AGAIN_MS = callTimeoutMs('submit') + 1_000;
/** Interval at which a node whose job is over asks for the coordinator's next job, in milliseconds. */
export const JOB_WATCH_MS = 10_000;
/** Pause after the first failed attempt to join, to sync, or to start the trainer. */
export const RETRY_FIRST_MS = 500;
/** Maximum pause between two attempts to join, to sync, or to start the trainer. */
export const RETRY_LONGEST_MS = 30_000;

/**
 * Returns the pause before the next attempt, in milliseconds. The pause doubles with each failure. The jitter
 * shortens the pause by up to half, so that nodes that lost the same coordinator do not all try again at the
 * same moment.
 * @param failures number of failures in a row, at least 1
 * @param jitter uniform in [0, 1)
 */
export function backoffMs(failures: number, jitter: number): number {
  const whole = Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(whole * (0.5 + 0.5 * jitter));
}
