import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Call } from './service.ts';

/** Runs a program, and returns its exit code and its output. The exit code is 127 if the program does not exist. */
export async function runCall([program, ...args]: Call): Promise<{ code: number; output: string }> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: CALL_MS });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return once(child, 'close').then(
    ([code]) => ({ code: (code as number | null) ?? 1, output }),
    () => ({ code: 127, output: `there is no program ${program}` }),
  );
}

/** Runs a program whose output goes to the user. @returns its exit code */
export async function showCall([program, ...args]: Call, signal: AbortSignal): Promise<number> {
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'], signal });
  return once(child, 'close').then(
    ([code]) => (code as number | null) ?? 1,
    // Exit code 0 after an abort, because Ctrl-C is the usual way to end a program that follows a log.
    () => (signal.aborted ? 0 : 127),
  );
}

/** Time limit of a call, in milliseconds. The slowest calls stop a service, which may take up to STOP_SECONDS. */
const CALL_MS = 60_000;
