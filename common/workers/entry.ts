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
 * Returns the channel to the process or thread that started this one. After this call, a child process exits when its
 * parent does.
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
  // Ctrl-C reaches the whole process group. The child ignores it, because the parent decides when its children stop.
  process.on('SIGINT', () => {});
  return {
    send: (message, onSent) => {
      process.send?.(message, () => onSent?.());
    },
    onMessage: (listener) => process.on('message', listener as (message: unknown) => void),
  };
}
