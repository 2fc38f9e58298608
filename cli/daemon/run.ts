import { setTimeout as sleep } from 'node:timers/promises';
import { DRAIN_MS } from '../signals.ts';

/**
 * Milliseconds in which a daemon must stop after a signal. The process must have ended after DRAIN_MS, so 500 ms are
 * left for its exit.
 */
export const STOP_DEADLINE_MS = DRAIN_MS - 500;
const POLL_MS = 500;

/**
 * Makes all files that this process and its children create readable by their owner only. A daemon's home holds keys,
 * tokens and the data of others.
 */
export function keepFilesPrivate(): void {
  process.umask(0o077);
}

/** Calls `poll` twice a second until the signal aborts. */
export async function pollUntilAborted(signal: AbortSignal, poll: () => Promise<void> | void): Promise<void> {
  while (!signal.aborted) {
    await poll();
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}
