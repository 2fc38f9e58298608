import { expect } from 'vitest';
import { isSwarmError } from '../../../common/errors.ts';

/**
 * Matches an error by its code and some of its values: `expect(() => run()).toThrow(withCode('USAGE', { name }))`.
 * For a promise, `rejects.toMatchObject({ code, values })` does the same.
 */
export function withCode(code: string, values?: object): unknown {
  return expect.objectContaining({ code, ...(values && { values: expect.objectContaining(values) }) });
}

/** Returns the code of the SwarmError that `run` throws, or undefined if it throws nothing. */
export function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (isSwarmError(error)) return error.code;
    throw error;
  }
}
