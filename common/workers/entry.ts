import { parentPort } from 'node:worker_threads';
import type { Channel } from './calls.ts';

/**
 * Returns the URL of a child's entry file. The file lies in the folder of the module that starts the child. It is
 * `name`.ts in a checkout and `name`.js in the build.
 */
export function entryOf(module: { url: string }, name: string): URL {
  return new URL(`${name}.${module.url.endsWith('.ts') ? 'ts' : 'js'}`, module.url);
}

/**
 * Signals that reach the whole process group: from Ctrl-C, from systemd, from a terminal that is closed, and from
 * Ctrl-Break on Windows, the only system with SIGBREAK. A child process ignores them, because the parent saves the
 * child's state and then ends the child.
 */
const GROUP_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK'];

/**
 * Returns the channel to the process or thread that started this one. After this call, a child process ignores
 * `GROUP_SIGNALS` and exits when its parent exits.
 *
 * @throws Error when nothing started this process with a channel
 */
export function parentChannel(): Channel {
  const port = parentPort;
  if (port !== null) {
    return {
      send: (message, onSent) => {
        port.postMessage(message);
        onSent?.();
      },
      onMessage: (listener) => port.on('message', listener as (message: unknown) => void),
    };
  }
  if (process.send === undefined) throw new Error('this file runs only as a child process or worker thread');
  process.on('disconnect', () => process.exit(0));
  for (const signal of GROUP_SIGNALS) process.on(signal, () => {});
  return {
    send: (message, onSent) => {
      process.send?.(message, () => onSent?.());
    },
    onMessage: (listener) => process.on('message', listener as (message: unknown) => void),
  };
}
