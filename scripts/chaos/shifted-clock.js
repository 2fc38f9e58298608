/** Shifts the clock of a process, as if the clock of its machine were wrong. Loaded with `--import`. */
import { readFileSync, watchFile } from 'node:fs';

const file = process.env.CHAOS_CLOCK_FILE;
/** Interval at which the file is read, in milliseconds. */
const INTERVAL_MS = 250;

if (file) {
  let offset = 0;
  const read = () => {
    try {
      offset = Number(readFileSync(file, 'utf8')) || 0;
    } catch {
      // Without the file, the clock is right.
      offset = 0;
    }
  };
  read();
  watchFile(file, { interval: INTERVAL_MS, persistent: false }, read);
  const Real = Date;
  const now = () => Real.now() + offset;
  globalThis.Date = class extends Real {
    constructor(...given) {
      super(...(given.length === 0 ? [now()] : given));
    }
    static now() {
      return now();
    }
  };
}
