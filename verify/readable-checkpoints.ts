import { isSwarmError } from '../common/errors.ts';
import { addProblems, type Problem } from './findings.ts';

/**
 * Yields checkpoints until the source fails. If earlier checks have found problems, adds the failure to `problems` instead
 * of throwing it. Otherwise, a source could hide the problems by a damaged block after them.
 */
export async function* readableCheckpoints<T>(
  checkpoints: AsyncIterable<T>,
  problems: Problem[],
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  try {
    yield* checkpoints;
  } catch (error) {
    signal.throwIfAborted();
    if (problems.length === 0 || !isSwarmError(error)) throw error;
    const message = `the later checkpoints are unreadable: ${error.message}`;
    addProblems(problems, [{ code: 'VERIFY_SOURCE', round: null, message, values: { code: error.code } }]);
  }
}
