import type { Clock } from '../../common/time/clock.ts';

/** Milliseconds in which equal warnings are written once. The repetitions are counted and not written. */
export const REPEAT_WINDOW_MS = 60_000;
/**
 * Maximum number of distinct warnings remembered at a time. Limits the memory if a peer keeps causing different
 * warnings.
 */
const MAX_WARNINGS = 256;

/** Counts repeated warnings, so that one dead peer does not fill the log. */
export class RepeatedWarnings {
  readonly #seen = new Map<string, { since: number; repeated: number }>();
  readonly #clock: Pick<Clock, 'monotonic'>;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /**
   * Decides whether the log gets a warning.
   * @returns null if the warning is left out; otherwise the number of warnings with the same key that were left out
   *   since the log last got one
   */
  admit(key: string): number | null {
    const now = this.#clock.monotonic();
    const entry = this.#seen.get(key);
    if (entry && now - entry.since < REPEAT_WINDOW_MS) {
      entry.repeated++;
      return null;
    }
    this.#seen.delete(key);
    if (this.#seen.size >= MAX_WARNINGS) this.#seen.delete(this.#seen.keys().next().value!);
    this.#seen.set(key, { since: now, repeated: 0 });
    return entry?.repeated ?? 0;
  }
}
