import type { Clock } from './clock.ts';

/** Time between two looks at the clocks. */
const LOOK_MS = 5_000;
/** Minimum jump that is reported. Time services correct smaller errors all the time. */
export const CLOCK_JUMP_MS = 5_000;

/**
 * Compares the calendar clock with the monotonic clock every five seconds. Calls `onJump` if the calendar clock was set,
 * with the milliseconds by which it was set forward, or back if negative. Returns a function that ends the watch.
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
