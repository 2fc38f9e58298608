/**
 * The one error type of the project. Callers branch on `code`; people read `message`, which says what
 * happened, with which value, and what to do next; `values` carries the same facts for logs and JSON.
 */
export class SwarmError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly values: Readonly<Record<string, unknown>>;

  constructor(code: Code, message: string, values: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SwarmError';
    this.code = code;
    this.values = values;
  }
}

export function isSwarmError(error: unknown, code?: string): error is SwarmError {
  return error instanceof SwarmError && (code === undefined || error.code === code);
}
