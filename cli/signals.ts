import { exitCodes } from './exit-codes.ts';
import { clearProgress } from './shown-progress.ts';
import { StopRequests } from './stop-requests.ts';

/**
 * Milliseconds in which a daemon must leave its round, save its state and disconnect. After this time, the process exits
 * even if it has not finished.
 */
export const DRAIN_MS = 5_000;

/** Message that asks a helper process to drain on Windows, which has no signal for this. */
export const DRAIN_MESSAGE = 'drain';

/**
 * Abort reason of the drain signal if the program that read this process's output has ended, as in `lora-swarm … |
 * head`.
 */
export class OutputClosed extends Error {
  override readonly name = 'AbortError';
}

/** Called at Ctrl-C instead of stopping the command; null if Ctrl-C stops the command. */
let interruptHandler: (() => void) | null = null;

/** Makes Ctrl-C call `handler` instead of stopping the command. The returned function removes the handler. */
export function catchInterrupts(handler: () => void): () => void {
  interruptHandler = handler;
  return () => {
    if (interruptHandler === handler) interruptHandler = null;
  };
}

/**
 * Returns a signal that aborts at the first Ctrl-C or SIGTERM, or when the terminal is closed, so that the command can
 * drain. The second such signal, or the end of DRAIN_MS, ends the process. Repetitions of a signal do not count (see
 * {@link StopRequests}). A helper process (started with an IPC channel by the demo or a test) also drains when its parent
 * dies. Every command also drains, with the reason {@link OutputClosed}, when no program reads its output.
 */
export function drainOnSignals(): AbortSignal {
  const controller = new AbortController();
  let isSignalled = false;
  const drain = (why: string): void => {
    if (isSignalled) {
      process.stderr.write('lora-swarm: ended at once\n');
      process.exit(exitCodes.interrupted);
    }
    isSignalled = true;
    clearProgress();
    process.stderr.write(
      `lora-swarm: ${why}; stopping within ${DRAIN_MS / 1000} s; another Ctrl-C stops at once\n`,
    );
    setTimeout(() => {
      process.stderr.write(
        `lora-swarm: did not stop within ${DRAIN_MS / 1000} s, so it ends now without saving\n`,
      );
      process.exit(exitCodes.interrupted);
    }, DRAIN_MS).unref();
    const error = new Error('interrupted');
    error.name = 'AbortError';
    controller.abort(error);
  };
  for (const output of [process.stdout, process.stderr]) {
    output.on('error', (error: NodeJS.ErrnoException) => {
      // The write failed because the terminal is closed. Ignore this error, because SIGHUP arrives too and makes the
      // command save and stop.
      if (error.code === 'EIO' && output.isTTY) return;
      if (error.code !== 'EPIPE') throw error;
      if (controller.signal.aborted) return;
      setTimeout(() => process.exit(exitCodes.ok), DRAIN_MS).unref();
      controller.abort(new OutputClosed('nothing reads the output'));
    });
  }
  const requests = new StopRequests({ now: () => performance.now() });
  const onRequest = (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP', act: () => void): void => {
    process.on(signal, () => {
      if (requests.isNew(signal)) act();
    });
  };
  onRequest('SIGINT', () => (interruptHandler === null ? drain('interrupted') : interruptHandler()));
  onRequest('SIGTERM', () => drain('asked to stop'));
  // Without this handler, closing the terminal would end a daemon before it has drained.
  onRequest('SIGHUP', () => drain('the terminal was closed'));
  // On Windows, SIGBREAK (Ctrl-Break) is the only signal that one process can send to another without killing
  // it.
  if (process.platform === 'win32') process.on('SIGBREAK', () => drain('interrupted'));
  if (process.connected) {
    process.on('disconnect', () => {
      if (!isSignalled) drain('the parent process ended');
    });
    process.on('message', (message) => {
      if (message === DRAIN_MESSAGE) drain('asked to stop');
    });
    // The open channel must not keep a finished command running.
    process.channel?.unref();
  }
  return controller.signal;
}
