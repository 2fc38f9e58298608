import { commonError } from '../common/common-errors.ts';
import { fromSystem, messageOf, REPORT } from '../common/errors.ts';
import { safeText } from '../common/text.ts';
import { type ErrorJson, type ErrorKind, isSwarmError, type SwarmError } from '../index.ts';
import { withCommandName } from './command-name.ts';
import { cliError } from './error-codes.ts';
import { exitCodes } from './exit-codes.ts';

/** Maximum length of a message, and of its advice, that the CLI shows, in characters. */
const SHOWN_CHARACTERS = 1000;
const STACK_CHARACTERS = 10_000;

/** Returns an error about the command line. @param next advice */
export function usageError(message: string, next?: string): SwarmError {
  return commonError('USAGE', message, {}, { next });
}

/** Returns a warning that an adapter could not be added to the registry. @param output folder of the adapter */
export function notPublished(error: unknown, output: string): SwarmError {
  const { code, message } = failureOf(error);
  return cliError(
    'NOT_PUBLISHED',
    `the adapter in ${output} could not be added to the registry: ${message}`,
    { output, code },
    { cause: error, next: `add it later with: lora-swarm adapter add NAME ${output}` },
  );
}

/** Returns a warning that the model card of a run could not be written. @param output folder of the adapter */
export function noCard(error: unknown, output: string): SwarmError {
  const { code, message } = failureOf(error);
  return cliError(
    'CARD_NOT_WRITTEN',
    `the model card of the adapter in ${output} could not be written: ${message}`,
    { output, code },
    { cause: error, next: 'the adapter itself is complete, and needs no card' },
  );
}

/** Errors that the command has already reported in its own output. */
const printed = new WeakSet<Error>();

/**
 * Marks an error that the command has already reported in its own output. The CLI then prints nothing more, and only
 * sets the exit code.
 */
export function withoutOutput<E extends Error>(error: E): E {
  printed.add(error);
  return error;
}

/** Returns whether an error was marked by {@link withoutOutput}. */
export function isPrinted(error: unknown): boolean {
  return error instanceof Error && printed.has(error);
}

/** An error as the CLI prints it: one or two lines of text, or one object with --json. */
export interface Failure {
  kind: ErrorKind;
  exitCode: number;
  code: string;
  message: string;
  /** Advice about what to do; null if there is none. */
  next: string | null;
  values: Readonly<Record<string, unknown>>;
}

export function failureOf(error: unknown): Failure {
  if (isAbort(error)) return failure(commonError('INTERRUPTED', 'interrupted'));
  if (isSwarmError(error)) return failure(error);
  const message = messageOf(error);
  // An error of the operating system (no permission, a full disk) is not a bug of this program.
  if (isSystemError(error)) {
    const { code, syscall } = error;
    return failure({ kind: 'failed', next: null, ...fromSystem(error), code, message, values: { syscall } });
  }
  return {
    kind: 'internal',
    exitCode: exitCodes.internal,
    code: error instanceof Error && 'code' in error ? String(error.code) : 'INTERNAL',
    message: `unexpected error: ${safeText(message)}`,
    next: withCommandName(REPORT),
    values: {},
  };
}

function failure({ kind, code, message, next, values }: ErrorJson): Failure {
  const text = safeText(message, { maxCharacters: SHOWN_CHARACTERS });
  const advice = next === null ? null : withCommandName(safeText(next, { maxCharacters: SHOWN_CHARACTERS }));
  return { kind, exitCode: exitCodes[kind], code, message: text, next: advice, values };
}

/** Returns whether the user aborted the command. Both `context.signal` and the functions of Node.js throw an AbortError. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function isSystemError(error: unknown): error is Error & { code: string; syscall: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string';
}

/** Returns the line "lora-swarm: message" and, if there is advice, the line "  next: advice". */
export function failureLines({ message, next }: Failure): string[] {
  return [`lora-swarm: ${message}`, ...(next === null ? [] : [`  next: ${next}`])];
}

/** Returns the failure as one JSON object. Its `event` distinguishes it from data in a stream of JSON lines. */
export function failureJson({ code, message, next, values, exitCode }: Failure): object {
  return { schemaVersion: 1, event: 'error', error: { code, message, next, values, exitCode } };
}

/** Returns the stack of an error. The stack is sanitised, because it begins with the error's message. */
export function stackText({ stack = '' }: Error): string {
  return safeText(stack, { multiline: true, maxCharacters: STACK_CHARACTERS });
}
