import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';

/** A head is announced once. After this long without one the node asks for it, because gossip may have lost it. */
export const HEAD_SILENCE_MS = 10_000;
/**
 * A receipt for a small update takes one round trip and one fsync. After this long the node asks for it, because gossip
 * may have lost the update or the receipt.
 */
export const RECEIPT_WAIT_MS = 3_000;
/** A question about an update is repeated after this long without an answer. */
export const ASK_AGAIN_MS = RPC_TIMEOUT_MS + 1_000;
/** How often a node whose job is over asks for the coordinator's next job. */
export const JOB_WATCH_MS = 10_000;
/** First and longest pause between attempts to join, to sync, or to start the trainer. */
export const RETRY_FIRST_MS = 500;
export const RETRY_LONGEST_MS = 30_000;

/**
 * Returns the pause before the next attempt, in milliseconds. It doubles with each failure. The jitter shortens it by up
 * to half, so that nodes that lost the same coordinator do not come back in one wave.
 * @param failures in a row, at least 1
 * @param jitter uniform in [0, 1)
 */
export function backoffMs(failures: number, jitter: number): number {
  const whole = Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(whole * (0.5 + 0.5 * jitter));
}
