import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';

/** A head is told once, when it is new; after this long without one it is asked for, since gossip may have lost it. */
export const HEAD_SILENCE_MS = 10_000;
/** A receipt for a small update comes within a round trip and an fsync; after this long gossip may have lost one of the two. */
export const RECEIPT_WAIT_MS = 3_000;
/** A question about an update is repeated when its answer is this late. */
export const ASK_AGAIN_MS = RPC_TIMEOUT_MS + 1_000;
/** How often a node without anything to do looks for the coordinator's next job. */
export const JOB_WATCH_MS = 10_000;
/** First and longest pause between attempts at what must succeed in the end. */
export const RETRY_FIRST_MS = 500;
export const RETRY_LONGEST_MS = 30_000;

/**
 * Pause before the next attempt: doubles with each failure, and is spread over half its length so that nodes
 * that lost the same coordinator do not come back in one wave.
 * @param failures in a row, at least 1
 * @param jitter uniform in [0, 1)
 */
export function backoffMs(failures: number, jitter: number): number {
  const whole = Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(whole * (0.5 + 0.5 * jitter));
}
