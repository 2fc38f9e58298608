import { raceSignal } from 'race-signal';
import type { PartialBlob } from '../../storage/partial-blob.ts';

/**
 * Decides which range each stream requests next. Missing ranges are requested in order. Once all missing
 * ranges have been requested, an idle stream takes the range whose first request is the oldest, and requests
 * it from a second holder. A slow holder therefore does not delay the whole blob.
 */
export class RangeQueue {
  readonly #partial: PartialBlob;
  readonly #waiting: number[] = [];
  /** The holders that each range is requested from, oldest request first. */
  readonly #asked = new Map<number, Set<string>>();
  #changed = Promise.withResolvers<void>();

  constructor(partial: PartialBlob) {
    this.#partial = partial;
    for (let range = partial.ranges - 1; range >= 0; range--)
      if (!partial.has(range)) this.#waiting.push(range);
  }

  /** Waits for a range to request from a peer. Returns null when all ranges have arrived, or on abort. */
  async next(peer: string, signal: AbortSignal): Promise<number | null> {
    while (!signal.aborted && !this.#partial.complete) {
      const range = this.#waiting.pop() ?? this.#second(peer);
      if (range !== undefined) {
        const peers = this.#asked.get(range) ?? new Set();
        peers.add(peer);
        this.#asked.set(range, peers);
        return range;
      }
      await raceSignal(this.#changed.promise, signal).catch(() => {});
    }
    return null;
  }

  /** Notes that a range has arrived. */
  arrived(range: number): void {
    this.#asked.delete(range);
    this.#wake();
  }

  /** Notes that a holder did not deliver a range. */
  failed(range: number, peer: string): void {
    const peers = this.#asked.get(range);
    if (peers === undefined) return;
    peers.delete(peer);
    if (peers.size === 0) {
      this.#asked.delete(range);
      if (!this.#partial.has(range)) this.#waiting.push(range);
    }
    this.#wake();
  }

  /**
   * Returns a range to request from a second holder. Among the ranges that are requested from only one other
   * holder, it is the range whose request is the oldest.
   */
  #second(peer: string): number | undefined {
    for (const [range, peers] of this.#asked) if (peers.size === 1 && !peers.has(peer)) return range;
    return undefined;
  }

  /** Wakes the streams that wait for a range. */
  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
