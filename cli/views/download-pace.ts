/** Time in milliseconds over which the speed of a download is averaged, if at least FEWEST pieces arrive in this time. */
const WINDOW_MS = 30_000;
/** Minimum number of pieces over which the speed is averaged. Pieces of a slow download arrive many seconds apart. */
const FEWEST = 4;
/** A piece ends when no bytes arrive between two calls of `next`, and otherwise after this time in milliseconds. */
const PIECE_MS = 2_000;
/** A download counts as stalled when no piece has arrived for this multiple of the mean time between two pieces. */
const STALLED = 3;

/** The number of bytes that have arrived at a time in milliseconds. */
interface Arrival {
  readonly bytes: number;
  readonly at: number;
}

interface DownloadEstimate {
  readonly bytesPerSecond: number;
  readonly secondsLeft: number;
}

/**
 * Estimates the speed of a download, and the time left. With a bandwidth limit, pieces arrive fast, but many seconds apart.
 * The speed is therefore measured from the end of one piece to the end of another.
 */
export class DownloadPace {
  /** The ends of the newest pieces, oldest first. */
  #pieces: Arrival[] = [];
  /** The piece that is arriving: the time of its beginning, and its newest bytes. Null between two pieces. */
  #arriving: { readonly since: number; readonly newest: Arrival } | null = null;

  /**
   * @param bytes number of bytes that have arrived
   * @param now current time in milliseconds
   * @returns null until two pieces have arrived
   */
  next({ bytes, total }: { bytes: number; total: number }, now: number): DownloadEstimate | null {
    const before = this.#arriving?.newest ?? this.#pieces.at(-1);
    if (before !== undefined && bytes < before.bytes) {
      // The download has started again.
      this.#pieces = [];
      this.#arriving = null;
    }
    const isNew = bytes > 0 && bytes !== before?.bytes;
    if (this.#arriving !== null && (!isNew || now - this.#arriving.since >= PIECE_MS)) {
      this.#pieces.push(this.#arriving.newest);
      this.#arriving = null;
    }
    if (isNew) this.#arriving = { since: this.#arriving?.since ?? now, newest: { bytes, at: now } };
    while (this.#pieces.length > FEWEST + 1 && this.#pieces[1]!.at < now - WINDOW_MS) this.#pieces.shift();
    return this.#estimate(total, now);
  }

  #estimate(total: number, now: number): DownloadEstimate | null {
    const [first, last] = [this.#pieces[0], this.#pieces.at(-1)];
    if (first === undefined || last === undefined || last.at <= first.at) return null;
    const gap = (last.at - first.at) / (this.#pieces.length - 1);
    const waited = now - last.at;
    // Between two pieces, the speed must not fall and the time left must not rise, because the next piece is under way.
    const isStalled = waited > STALLED * gap;
    const end = isStalled ? now : last.at;
    const bytesPerSecond = (1000 * (last.bytes - first.bytes)) / (end - first.at);
    const underWay = isStalled ? 0 : Math.min(waited, gap) / 1000;
    return { bytesPerSecond, secondsLeft: Math.max(0, (total - last.bytes) / bytesPerSecond - underWay) };
  }
}
