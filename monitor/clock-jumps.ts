import { formatDuration } from '../common/text.ts';
import type { Clock } from '../common/time/clock.ts';
import { CLOCK_JUMP_MS, watchClock } from '../common/time/clock-watch.ts';
import type { ClockJump } from '../protocol/api/node.ts';
import { CLOCK_SKEW_MS } from '../protocol/limits.ts';

/** Time for which a jump of the clock is shown, in milliseconds. An operator who looks every few minutes sees it. */
const SHOWN_MS = 10 * 60_000;

/** Remembers the jumps of the clock of this machine, for the status and the health of a daemon. */
export class ClockJumps {
  readonly #clock: Clock;
  /** The jumps of the last SHOWN_MS. `at` is on the monotonic clock. */
  #jumps: { readonly byMs: number; readonly at: number }[] = [];

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Watches the clock. @returns a function that ends the watch */
  watch(onJump: (byMs: number) => void): () => void {
    return watchClock(this.#clock, (byMs) => {
      this.#jumps.push({ byMs, at: this.#clock.monotonic() });
      onJump(byMs);
    });
  }

  /**
   * Returns the sum of the jumps in the last ten minutes, with the time of the newest one. Returns null if there was none,
   * or if the clock was set back to the right time.
   */
  get recent(): ClockJump | null {
    const now = this.#clock.monotonic();
    this.#jumps = this.#jumps.filter(({ at }) => now - at < SHOWN_MS);
    const byMs = this.#jumps.reduce((sum, jump) => sum + jump.byMs, 0);
    if (Math.abs(byMs) < CLOCK_JUMP_MS) return null;
    return { byMs, secondsAgo: (now - this.#jumps.at(-1)!.at) / 1000 };
  }

  /**
   * Describes a recent jump for a health check. Returns null if the jump was so small that nodes and coordinators still
   * accept each other.
   */
  problem(): string | null {
    const { recent } = this;
    if (recent === null || Math.abs(recent.byMs) <= CLOCK_SKEW_MS) return null;
    return `the clock of this machine was ${clockJumpText(recent)}; a coordinator refuses nodes whose clocks differ from its own by more than ${CLOCK_SKEW_MS / 1000} s`;
  }
}

/** Returns the jump in words, for example "set forward by 10 min 0 s, 2 min 5 s ago". */
export function clockJumpText({ byMs, secondsAgo }: ClockJump): string {
  const direction = byMs > 0 ? 'forward' : 'back';
  return `set ${direction} by ${formatDuration(Math.abs(byMs) / 1000)}, ${formatDuration(secondsAgo)} ago`;
}
