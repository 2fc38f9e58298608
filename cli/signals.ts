import { exitCodes } from './exit-codes.ts';

/** What a drain may take: finish or hand back, save, say goodbye. Then the process ends in any case. */
export const DRAIN_MS = 5_000;

/**
 * The first Ctrl-C or SIGTERM aborts the returned signal so that the command can drain; the second, or the end of
 * the time to drain, ends the process. A helper process (started with an IPC channel, by the demo or a test) drains
 * as well when its parent is gone.
 */
export function drainOnSignals(): AbortSignal {
  const controller = new AbortController();
  const drain = (why: string): void => {
    if (controller.signal.aborted) {
      process.stderr.write('swarm: stopped at once\n');
      process.exit(exitCodes.interrupted);
    }
    process.stderr.write(`swarm: ${why}, stopping within ${DRAIN_MS / 1000} s; again to force\n`);
    setTimeout(() => process.exit(exitCodes.interrupted), DRAIN_MS).unref();
    const error = new Error('interrupted');
    error.name = 'AbortError';
    controller.abort(error);
  };
  process.on('SIGINT', () => drain('interrupted'));
  process.on('SIGTERM', () => drain('asked to stop'));
  // A closed terminal must not leave daemons behind that nobody sees.
  process.on('SIGHUP', () => drain('the terminal is gone'));
  if (process.connected) {
    process.on('disconnect', () => {
      if (!controller.signal.aborted) drain('the process that started this one is gone');
    });
    // The channel alone should not keep a finished command alive.
    process.channel?.unref();
  }
  return controller.signal;
}
