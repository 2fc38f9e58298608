import { on } from 'node:events';
import { join } from 'node:path';
import { addAbortSignal } from 'node:stream';
import type { Environment } from '../common/environment.ts';
import { packageRoot, packageVersion } from '../common/package.ts';
import type { Clock } from '../common/time/clock.ts';
import { systemClock } from '../common/time/system-clock.ts';
import { catchInterrupts } from './signals.ts';

/** An output stream for text. */
export interface Output {
  write(text: string): void;
  readonly isTTY: boolean;
  /** Width of the terminal. @default 80 */
  readonly columns: number;
  /** Height of the terminal. @default 24 */
  readonly rows: number;
  readonly color: boolean;
}

/** The standard input, as text. */
export interface Input {
  readonly isTerminal: boolean;
  /** Yields the input in pieces until its end. Leaving the loop earlier closes the input. @throws the signal's reason */
  read(signal: AbortSignal): AsyncIterable<string>;
}

/** The parts of the process that a command uses: folders, environment, output, clock, signal. Tests pass their own. */
export interface Context {
  readonly environment: Environment;
  readonly cwd: string;
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: Clock;
  /**
   * Yields each key press at once, without showing it on the terminal, until the signal aborts. Ctrl-C is yielded like
   * other keys. When the iteration or the process ends, the terminal returns to its usual mode.
   */
  keys(signal: AbortSignal): AsyncIterable<string>;
  /**
   * Aborts at the first Ctrl-C or SIGTERM, or when the terminal is closed. In a helper process it also aborts when the
   * parent process dies.
   */
  readonly signal: AbortSignal;
  /** Makes Ctrl-C call `handler` instead of aborting the signal. The returned function removes the handler. */
  onInterrupt(handler: () => void): () => void;
  /** Calls `handler` when the size of the terminal has changed. The returned function removes the handler. */
  onResize(handler: () => void): () => void;
  readonly version: string;
  /** Paths for starting this program again: the running Node.js and swarm.js. */
  readonly self: { readonly node: string; readonly script: string };
  /** Root folder of the package, which contains `models/`. */
  readonly root: string;
}

export function processContext(signal: AbortSignal): Context {
  const root = packageRoot();
  return {
    environment: process.env,
    cwd: process.cwd(),
    stdin: {
      // Node.js opens the standard input at the first access, so it is accessed only when a command reads it.
      get isTerminal() {
        return process.stdin.isTTY === true;
      },
      read: (signal) => addAbortSignal(signal, process.stdin.setEncoding('utf8')),
    },
    stdout: output(process.stdout, process.env),
    stderr: output(process.stderr, process.env),
    clock: systemClock,
    keys: terminalKeys,
    signal,
    onInterrupt: catchInterrupts,
    onResize: (handler) => {
      process.stdout.on('resize', handler);
      return () => process.stdout.removeListener('resize', handler);
    },
    version: packageVersion(),
    self: { node: process.execPath, script: join(root, 'cli', 'swarm.js') },
    root,
  };
}

async function* terminalKeys(signal: AbortSignal): AsyncGenerator<string, void, undefined> {
  const { stdin } = process;
  const restore = (): void => void stdin.setRawMode(false);
  stdin.setEncoding('utf8').setRawMode(true);
  process.on('exit', restore);
  try {
    for await (const [text] of on(stdin, 'data', { signal })) yield text as string;
  } finally {
    process.removeListener('exit', restore);
    restore();
    // A paused input does not keep the process running.
    stdin.pause();
  }
}

function output(stream: NodeJS.WriteStream, environment: Environment): Output {
  const isTTY = stream.isTTY === true;
  return {
    write: (text) => void stream.write(text),
    isTTY,
    get columns() {
      // Some terminals report 0 columns. In this case, assume 80.
      return stream.columns || 80;
    },
    get rows() {
      return stream.rows || 24;
    },
    // https://no-color.org: any non-empty value turns colours off.
    color: isTTY && !environment.NO_COLOR && environment.TERM !== 'dumb',
  };
}
