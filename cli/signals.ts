import { exitCodes } from './exit-codes.ts';

/**
 * Milliseconds in which a daemon hands back its round, saves and leaves. After this time, the process exits even if it
 * has not finished.
 */
export const DRAIN_MS = 5_000;

/** Message that asks a helper process to drain on Windows, which has no signal for this. */
export const DRAIN_MESSAGE = 'drain';

/**
 * Returns a signal that aborts at the first Ctrl-C or SIGTERM, or when the terminal is closed, so that the command can
 * drain. The second such signal, or the end of DRAIN_MS, ends the process. A helper process (started with an IPC
 * channel by the demo or a test) also drains when its parent dies.
 */
export function drainOnSignals(): AbortSignal {
  const controller = new AbortController();
  const drain = (why: string): void => {
    if (controller.signal.aborted) {
      process.stderr.write('swarm: ended at once\n');
      process.exit(exitCodes.interrupted);
    }
    process.stderr.write(
      `swarm: ${why}; stopping within ${DRAIN_MS / 1000} s, another Ctrl-C stops at once\n`,
    );
    setTimeout(() => {
      process.stderr.write(`swarm: did not stop within ${DRAIN_MS / 1000} s; ends now, without saving\n`);
      process.exit(exitCodes.interrupted);
    }, DRAIN_MS).unref();
    const error = new Error('interrupted');
    error.name = 'AbortError';
    controller.abort(error);
  };
  process.on('SIGINT', () => drain('interrupted'));
  process.on('SIGTERM', () => drain('asked to stop'));
  // Without this handler a daemon would go on unseen after its terminal was closed.
  process.on('SIGHUP', () => drain('the terminal was closed'));
  // Ctrl-Break: on Windows the only signal that one process can send to another without killing it.
  if (process.platform === 'win32') process.on('SIGBREAK', () => drain('interrupted'));
  if (process.connected) {
    process.on('disconnect', () => {
      if (!controller.signal.aborted) drain('the parent process ended');
    });
    process.on('message', (message) => {
      if (message === DRAIN_MESSAGE) drain('asked to stop');
    });
    // The open channel must not keep a finished command running.
    process.channel?.unref();
  }
  return controller.signal;
}
