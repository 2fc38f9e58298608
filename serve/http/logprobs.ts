/** Smallest log-probability in an answer. JSON cannot hold minus infinity, which an impossible token has. */
const SMALLEST = -9999;

/** Raises a log-probability below SMALLEST, such as minus infinity, to SMALLEST. */
export function finite(logprob: number): number {
  return Math.max(logprob, SMALLEST);
}
