/** Smallest log-probability in an answer. JSON cannot hold minus infinity, which an impossible token has. */
const SMALLEST = -9999;

/** Returns a log-probability that JSON can hold. */
export function finite(logprob: number): number {
  return Math.max(logprob, SMALLEST);
}
