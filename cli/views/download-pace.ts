/** Time in milliseconds over which the speed of a download is averaged, if at least FEWEST pieces arrive in it. */
const WINDOW_MS = 30_000;
/** Number of pieces over which the speed is averaged at least. Pieces of a slow download arrive many seconds apart. */
const FEWEST = 4;
/** A download counts as stalled when no piece has arrived for this multiple of the mean time between two pieces. */
const STALLED = 3;

/** Estimates the speed of a download that arrives in pieces, and the time left. */
export class DownloadPace {
  /** The newest pieces, oldest first: the number of bytes after the piece, and the time of its arrival in milliseconds. */
  #pieces: { bytes: number; at: number }[] = [];

  /**
   * @param bytes number of bytes that have arrived
   * @param now current time in milliseconds
   * @returns null until two pieces have arrived
   */
  next({ bytes, total }: { bytes: number; total: number }, now: number): DownloadEstimate | null {
    const last = this.#pieces.at(-1);
    // Fewer bytes than before mean that the download has started again.
    if (last !== undefined && bytes < last.bytes) this.#pieces = [];
    if (bytes > 0 && bytes !== last?.bytes) this.#pieces.push({ bytes, at: now });
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

interface DownloadEstimate {
  readonly bytesPerSecond: number;
  readonly secondsLeft: number;
}
