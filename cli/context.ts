import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../common/clock.ts';
import { systemClock } from '../common/system-clock.ts';
import type { Environment } from './homes.ts';

/** An output stream for text. */
export interface Output {
  write(text: string): void;
  readonly isTTY: boolean;
  /** Width of the terminal. @default 80 */
  readonly columns: number;
  readonly color: boolean;
}

/** Everything that a command gets from its process. Only this file and main.ts read `process`. */
export interface Context {
  readonly environment: Environment;
  readonly cwd: string;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: Clock;
  /** Aborts at the first Ctrl-C or SIGTERM. In a helper process it also aborts when the parent process dies. */
  readonly signal: AbortSignal;
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
    stdout: output(process.stdout, process.env),
    stderr: output(process.stderr, process.env),
    clock: systemClock,
    signal,
    version: packageVersion(root),
    self: { node: process.execPath, script: fileURLToPath(new URL('cli/swarm.js', root)) },
    root: fileURLToPath(root),
  };
}

/** This file is cli/context.ts in a checkout and dist/cli/context.js when published. */
function packageRoot(): URL {
  const above = import.meta.url.endsWith('.ts') ? '../' : '../../';
  return new URL(above, import.meta.url);
}

function packageVersion(root: URL): string {
  const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
  return version;
}

function output(stream: NodeJS.WriteStream, environment: Environment): Output {
  const isTTY = stream.isTTY === true;
  return {
    write: (text) => void stream.write(text),
    isTTY,
    get columns() {
      // Some terminals report 0.
      return stream.columns || 80;
    },
    // https://no-color.org: any non-empty value turns colours off.
    color: isTTY && !environment.NO_COLOR && environment.TERM !== 'dumb',
  };
}
