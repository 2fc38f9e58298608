/** Maximum factor by which the recorded speed of a node grows from one round to the next. */
export const SPEED_GROWTH = 1.5;

/**
 * Returns the speed of a node after an update has arrived, in tokens per second. The speed can fall to any value, but
 * grows by a factor of at most SPEED_GROWTH per round. Without this limit, a node that delivers without training would
 * be measured as thousands of times faster than other nodes. A late update can only lower the speed. Therefore the speed
 * does not grow several times when late updates of several rounds arrive together.
 * @param previous speed before the update; 0 if it has not been measured
 * @param ms time from the opening of the update's round to its arrival
 */
export function speedAfter(
  previous: number,
  { tokens, ms, isLate }: { tokens: number; ms: number; isLate: boolean },
): number {
  const measured = (tokens * 1000) / Math.max(1, ms);
  if (previous === 0) return measured;
  return Math.min(measured, isLate ? previous : SPEED_GROWTH * previous);
}
