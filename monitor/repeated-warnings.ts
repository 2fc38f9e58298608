import type { Clock } from '../common/clock.ts';

/** A repeated warning is written once in this time. The others are counted. */
export const REPEAT_WINDOW_MS = 60_000;
/** Distinct warnings remembered at a time. Bounds the memory when a peer causes ever new warnings. */
const MAX_WARNINGS = 256;

/** Counts repeated warnings, so that one dead peer does not fill the log. */
export class RepeatedWarnings {
  readonly #seen = new Map<string, { since: number; repeated: number }>();
  readonly #clock: Pick<Clock, 'monotonic'>;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** Returns null to leave the line out, or the number of lines left out since the last one that was written. */
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
