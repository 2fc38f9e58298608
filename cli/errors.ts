import { isSwarmError, SwarmError } from '../common/errors.ts';
import { safeText } from '../common/text.ts';
import { type Exit, exitCodes, exitFor, REPORT } from './exit-codes.ts';

/** A mistake on the command line. */
export function usageError(message: string, next?: string): SwarmError {
  return new SwarmError('USAGE', message, next === undefined ? {} : { next });
}

/** How an error is shown: to people in a line or two, with --json as one object. */
export interface Failure {
  exit: Exit;
  exitCode: number;
  code: string;
  message: string;
  /** The next thing to do. */
  next: string | null;
  values: Readonly<Record<string, unknown>>;
}

export function failureOf(error: unknown): Failure {
  if (isAbort(error)) return failure('INTERRUPTED', 'interrupted', null, {});
  if (isSwarmError(error)) {
    const { next, ...values } = error.values;
    return failure(error.code, error.message, typeof next === 'string' ? next : null, values, error.cause);
  }
  const message = error instanceof Error ? error.message : String(error);
  // A file that may not be read, a full disk: the system refuses, nothing of ours is broken.
  if (isSystemError(error)) return failure(error.code, message, null, { syscall: error.syscall });
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'INTERNAL';
  return {
    exit: 'internal',
    exitCode: exitCodes.internal,
    code,
    message: `an error that should not happen: ${safeText(message)}`,
    next: REPORT,
    values: {},
  };
}

function failure(
  code: string,
  message: string,
  next: string | null,
  values: object,
  cause?: unknown,
): Failure {
  const { exit, next: advice } = exitFor(code, cause);
  return {
    exit,
    exitCode: exitCodes[exit],
    code,
    message: safeText(message, { maxCharacters: 1000 }),
    next: next ?? advice,
    values: { ...values },
  };
}

/** A signal that the user aborted, from us or from Node.js. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function isSystemError(error: unknown): error is Error & { code: string; syscall: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string';
}

/** "swarm: what happened" and, indented, what to do next. */
export function failureLines({ message, next }: Failure): string[] {
  return [`swarm: ${message}`, ...(next === null ? [] : [`  next: ${next}`])];
}

/** The same as one JSON object; `event` lets readers of NDJSON streams tell it from data. */
export function failureJson({ code, message, next, values, exitCode }: Failure): object {
  return { schemaVersion: 1, event: 'error', error: { code, message, next, values, exitCode } };
}
