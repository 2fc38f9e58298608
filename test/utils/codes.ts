import { isSwarmError } from '../../common/errors.ts';

/** Returns the code of the SwarmError that `run` throws, or undefined when it throws nothing. */
export function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (isSwarmError(error)) return error.code;
    throw error;
  }
}

/** Returns the code of the SwarmError that `run` rejects with, or undefined when it resolves. */
export async function rejectionCode(run: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    if (isSwarmError(error)) return error.code;
    throw error;
  }
}
