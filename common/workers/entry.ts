import { parentPort } from 'node:worker_threads';
import type { Channel } from './calls.ts';

/** The file that a child starts in, beside the module that starts it: .ts in a checkout, .js in the build. */
export function entryOf(module: { url: string }, name: string): URL {
  return new URL(`${name}.${module.url.endsWith('.ts') ? 'ts' : 'js'}`, module.url);
}

/**
 * The channel to the process or thread that started this one. A child process ends with its parent.
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
  if (process.send === undefined) throw new Error('this file is the entry of a child process');
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole process group; the parent decides when its children stop.
  process.on('SIGINT', () => {});
  return {
    send: (message, onSent) => {
      process.send?.(message, () => onSent?.());
    },
    onMessage: (listener) => process.on('message', listener as (message: unknown) => void),
  };
}
