/** The class of a failure. It decides the exit code of the CLI (cli/exit-codes.ts). */
export type ErrorKind =
  | 'failed'
  | 'usage'
  | 'notRunning'
  | 'notFound'
  | 'refused'
  | 'conflict'
  | 'timeout'
  | 'unhealthy'
  | 'paused'
  | 'disproved'
  | 'internal'
  | 'interrupted';

// This is a record instead of a list, so that the compiler reports a missing kind.
const ERROR_KINDS: Readonly<Record<ErrorKind, true>> = {
  failed: true,
  usage: true,
  notRunning: true,
  notFound: true,
  refused: true,
  conflict: true,
  timeout: true,
  unhealthy: true,
  paused: true,
  disproved: true,
  internal: true,
  interrupted: true,
};

/** Cause, kind and advice of an error. */
export interface ErrorOptions {
  cause?: unknown;
  /** Overrides the kind that the module's table gives for this code. */
  kind?: ErrorKind | undefined;
  /** Advice on what to do. Overrides the advice of the module's table. */
  next?: string | undefined;
}

/** An error as JSON. This program passes errors in this form between its processes and threads, and over HTTP. */
export interface ErrorJson {
  code: string;
  message: string;
  values: Readonly<Record<string, unknown>>;
  kind: ErrorKind;
  next: string | null;
}

/**
 * The error type of this project. Programs tell errors apart by `code`. People read `message` (what happened, with
 * which value) and `next` (what to do). `values` holds the same facts for logs and JSON.
 *
 * Modules create errors with the function that `defineErrors` returns.
 */
export class SwarmError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly values: Readonly<Record<string, unknown>>;
  readonly kind: ErrorKind;
  readonly next: string | null;

  constructor(
    code: Code,
    message: string,
    values: Record<string, unknown> = {},
    { kind = 'failed', next, cause }: ErrorOptions = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SwarmError';
    this.code = code;
    this.values = values;
    this.kind = kind;
    this.next = next ?? null;
  }

  /** Returns a copy with another message, other values or other advice. */
  with({
    message = this.message,
    values = this.values,
    next = this.next ?? undefined,
  }: {
    message?: string;
    values?: Readonly<Record<string, unknown>>;
    next?: string | undefined;
  }): SwarmError<Code> {
    return new SwarmError(this.code, message, { ...values }, { kind: this.kind, next, cause: this.cause });
  }

  /** Returns the error without its stack and cause. */
  toJSON(): ErrorJson {
    const { code, message, values, kind, next } = this;
    return { code, message, values, kind, next };
  }

  /** Restores an error that another part of this program sent. */
  static fromJSON({ code, message, values, kind, next }: ErrorJson): SwarmError {
    return new SwarmError(code, message, { ...values }, { kind, next: next ?? undefined });
  }
}

/** Returns whether a value that came from another process has the form that `SwarmError.toJSON` returns. */
export function isErrorJson(value: unknown): value is ErrorJson {
  if (typeof value !== 'object' || value === null) return false;
  const { code, message, values, kind, next } = value as Partial<Record<keyof ErrorJson, unknown>>;
  return (
    typeof code === 'string' &&
    typeof message === 'string' &&
    typeof values === 'object' &&
    values !== null &&
    typeof kind === 'string' &&
    Object.hasOwn(ERROR_KINDS, kind) &&
    (next === null || typeof next === 'string')
  );
}

/** Returns the message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Returns whether a value is a SwarmError. @param code if given, the error must also have this code */
export function isSwarmError(error: unknown, code?: string): error is SwarmError {
  return error instanceof SwarmError && (code === undefined || error.code === code);
}

/**
 * The error codes of a module. Each code has a kind. A code can also have advice, which must fit every use of
 * the code.
 */
export type ErrorTable = Readonly<
  Record<string, ErrorKind | { readonly kind: ErrorKind; readonly next: string }>
>;

/**
 * Declares the error codes of a module. A code belongs to one module only.
 *
 * @returns a function that creates an error with one of these codes
 */
export function defineErrors<const Table extends ErrorTable>(table: Table) {
  const make = <Code extends keyof Table & string>(
    code: Code,
    message: string,
    values: Record<string, unknown> = {},
    options: ErrorOptions = {},
  ): SwarmError<Code> => {
    const entry = table[code]!;
    const { kind, next } = typeof entry === 'string' ? { kind: entry, next: undefined } : entry;
    return new SwarmError(code, message, values, {
      cause: options.cause,
      kind: options.kind ?? kind,
      next: options.next ?? next,
    });
  };
  return Object.assign(make, { table });
}

/** Kind and advice for error codes of system calls (errno). */
const SYSTEM_ERRORS: readonly { codes: readonly string[]; kind: ErrorKind; next?: string }[] = [
  {
    codes: ['EACCES', 'EPERM', 'EROFS'],
    kind: 'refused',
    next: 'check the owner and the permissions of the path',
  },
  { codes: ['ENOENT', 'ENOTDIR'], kind: 'notFound', next: 'check the path' },
  { codes: ['EADDRINUSE', 'EEXIST', 'EBUSY'], kind: 'conflict' },
  {
    codes: ['ENOSPC', 'EDQUOT'],
    kind: 'failed',
    next: 'free disk space, then run the same command again',
  },
];

/**
 * Returns whether an error is from a failed system call. @param codes the codes (errno) that count, such as `ENOENT`
 */
export function isSystemError(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/**
 * Returns kind and advice for a failed system call, to spread into `ErrorOptions`. Returns an empty object for an error
 * without a code.
 */
export function fromSystem(cause: unknown): Pick<ErrorOptions, 'kind' | 'next'> {
  if (!(cause instanceof Error && 'code' in cause)) return {};
  const found = SYSTEM_ERRORS.find(({ codes }) => codes.includes(String(cause.code)));
  return found === undefined ? { kind: 'failed' } : { kind: found.kind, next: found.next };
}

/** Advice for an error that only a bug in this program can cause. */
export const REPORT = 'report this bug, with the command that you ran and the output of "lora-swarm version"';
