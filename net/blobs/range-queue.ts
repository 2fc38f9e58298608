import type { PartialBlob } from '../../storage/partial-blob.ts';

/**
 * Which range which lane asks for next. Missing ranges go out in order; once all are on their way, an idle lane asks
 * a second holder for the oldest one, so that a slow holder does not decide when the blob is complete.
 */
export class RangeQueue {
  readonly #partial: PartialBlob;
  readonly #waiting: number[] = [];
  readonly #asked = new Map<number, Set<string>>();
  #wake: (() => void)[] = [];

  constructor(partial: PartialBlob) {
    this.#partial = partial;
    for (let range = partial.ranges - 1; range >= 0; range--)
      if (!partial.has(range)) this.#waiting.push(range);
  }

  /** The next range to ask of a peer, waiting for one if need be; null when all have arrived or the signal aborts. */
  async next(peer: string, signal: AbortSignal): Promise<number | null> {
    while (!signal.aborted && !this.#partial.complete) {
      const range = this.#waiting.pop() ?? this.#second(peer);
      if (range !== undefined) {
        const peers = this.#asked.get(range) ?? new Set();
        peers.add(peer);
        this.#asked.set(range, peers);
        return range;
      }
      await this.#change(signal);
    }
    return null;
  }

  arrived(range: number): void {
    this.#asked.delete(range);
    this.#changed();
  }

  failed(range: number, peer: string): void {
    const peers = this.#asked.get(range);
    if (peers === undefined) return;
    peers.delete(peer);
    if (peers.size === 0) {
      this.#asked.delete(range);
      if (!this.#partial.has(range)) this.#waiting.push(range);
    }
    this.#changed();
  }

  #second(peer: string): number | undefined {
    for (const [range, peers] of this.#asked) if (peers.size === 1 && !peers.has(peer)) return range;
    return undefined;
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      signal.addEventListener('abort', wake, { once: true });
      this.#wake.push(wake);
    });
  }
}
