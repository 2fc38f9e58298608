import type { Clock } from './clock.ts';

/**
 * Maximum delay of Node's timers, in milliseconds (24.8 days). Node would fire a timer with a longer delay immediately.
 */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(ms, MAX_TIMER_MS));
    return () => clearTimeout(timer);
  },
};
