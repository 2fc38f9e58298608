import type { Clock } from '../common/clock.ts';

/** The same warning is written once in this time; further ones are counted. */
export const FOLD_WINDOW_MS = 60_000;
/** Different warnings remembered at a time: bounds memory when a peer finds ever new ways to be warned about. */
const FOLD_KEYS = 256;

/** Counts repeated warnings, so that one dead peer does not fill a log. */
export class Folding {
  readonly #seen = new Map<string, { since: number; repeated: number }>();
  readonly #clock: Pick<Clock, 'monotonic'>;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** null: leave the line out. A number: write it, this many like it were left out before. */
  admit(key: string): number | null {
    const now = this.#clock.monotonic();
    const entry = this.#seen.get(key);
    if (entry && now - entry.since < FOLD_WINDOW_MS) {
      entry.repeated++;
      return null;
    }
    this.#seen.delete(key);
    if (this.#seen.size >= FOLD_KEYS) this.#seen.delete(this.#seen.keys().next().value!);
    this.#seen.set(key, { since: now, repeated: 0 });
    return entry?.repeated ?? 0;
  }
}
