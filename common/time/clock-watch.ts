import type { Clock } from './clock.ts';

/** Milliseconds between two comparisons of the clocks. */
const LOOK_MS = 5_000;
/** Minimum jump that is reported, in milliseconds. Smaller corrections by time services are normal. */
export const CLOCK_JUMP_MS = 5_000;

/**
 * Compares the calendar clock with the monotonic clock every five seconds, to detect that the calendar clock was set.
 * @param onJump called with the number of milliseconds by which the clock was set forward; negative if it was set back
 * @returns a function that ends the watch
 */
export function watchClock(clock: Clock, onJump: (byMs: number) => void): () => void {
  const offset = (): number => clock.now() - clock.monotonic();
  let last = offset();
  let cancel = clock.after(LOOK_MS, function look() {
    cancel = clock.after(LOOK_MS, look);
    const byMs = Math.round(offset() - last);
    last += byMs;
    if (Math.abs(byMs) >= CLOCK_JUMP_MS) onJump(byMs);
  });
  return () => cancel();
}
