import { setTimeout as sleep } from 'node:timers/promises';
import { isSwarmError } from '../../index.ts';
import { DRAIN_MS } from '../signals.ts';

/**
 * Milliseconds in which a daemon must stop after a signal. The process must have ended after DRAIN_MS, so 500 ms are
 * left for its exit.
 */
export const STOP_DEADLINE_MS = DRAIN_MS - 500;
const POLL_MS = 500;

/**
 * Makes all files that this process and its children create readable by their owner only, because the home of a daemon
 * holds keys, tokens and data of other people.
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

/**
 * Calls `poll` like {@link pollUntilAborted}, to show the state of the daemon in this process. Goes on after an answer that
 * came too late, because the process was busy or suspended. Showing the state must not end the daemon.
 */
export function pollOwnDaemon(signal: AbortSignal, poll: () => Promise<void>): Promise<void> {
  return pollUntilAborted(signal, () =>
    poll().catch((error: unknown) => {
      if (!isSwarmError(error, 'DAEMON_TIMEOUT')) throw error;
    }),
  );
}
