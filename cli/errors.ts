import { commonError } from '../common/common-errors.ts';
import type { ErrorJson, ErrorKind } from '../common/errors.ts';
import { fromSystem, isSwarmError, REPORT, type SwarmError } from '../common/errors.ts';
import { safeText } from '../common/text.ts';
import { withCommandName } from './command-name.ts';
import { exitCodes } from './exit-codes.ts';

/** A mistake on the command line. */
export function usageError(message: string, next?: string): SwarmError {
  return commonError('USAGE', message, {}, { next });
}

/** An error as the CLI shows it: to people in a line or two, with --json as one object. */
export interface Failure {
  kind: ErrorKind;
  exitCode: number;
  code: string;
  message: string;
  /** What to do next. */
  next: string | null;
  values: Readonly<Record<string, unknown>>;
}

export function failureOf(error: unknown): Failure {
  if (isAbort(error)) return failure(commonError('INTERRUPTED', 'interrupted'));
  if (isSwarmError(error)) return failure(error);
  const message = error instanceof Error ? error.message : String(error);
  // The operating system refused something (a file may not be read, a full disk): no defect of ours.
  if (isSystemError(error)) {
    const { code, syscall } = error;
    return failure({ kind: 'failed', next: null, ...fromSystem(error), code, message, values: { syscall } });
  }
  return {
    kind: 'internal',
    exitCode: exitCodes.internal,
    code: error instanceof Error && 'code' in error ? String(error.code) : 'INTERNAL',
    message: `an error that should not happen: ${safeText(message)}`,
    next: withCommandName(REPORT),
    values: {},
  };
}

function failure({ kind, code, message, next, values }: ErrorJson): Failure {
  const text = safeText(message, { maxCharacters: 1000 });
  const advice = next === null ? null : withCommandName(next);
  return { kind, exitCode: exitCodes[kind], code, message: text, next: advice, values };
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
