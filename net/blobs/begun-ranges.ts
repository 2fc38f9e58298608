import type { PartialBlob } from '../../storage/partial-blob.ts';
import type { RangeBuffers } from './range-buffers.ts';

/** The first bytes of a range. */
export interface BegunRange {
  readonly buffer: Uint8Array;
  /** Number of bytes that have arrived. */
  bytes: number;
  /** The holders that sent these bytes. */
  readonly sources: Set<string>;
}

/**
 * Keeps the bytes of ranges whose requests have failed, so that the next request of a range asks only for the rest. A slow
 * holder would otherwise send the same bytes again and again.
 */
export class BegunRanges {
  readonly #most: number;
  readonly #buffers: RangeBuffers;
  readonly #partial: PartialBlob;
  readonly #kept = new Map<number, BegunRange>();

  /** @param options.most maximum number of ranges whose bytes are kept */
  constructor(
    { most }: { most: number },
    { buffers, partial }: { buffers: RangeBuffers; partial: PartialBlob },
  ) {
    this.#most = most;
    this.#buffers = buffers;
    this.#partial = partial;
  }

  /** Takes the bytes of a range. If none are kept, waits for an empty buffer. @throws the signal's reason */
  async take(range: number, signal: AbortSignal): Promise<BegunRange> {
    const kept = this.#kept.get(range);
    this.#kept.delete(range);
    return kept ?? { buffer: await this.#buffers.take(signal), bytes: 0, sources: new Set() };
  }

  /** Keeps the bytes of a range whose request has failed. Of two failed requests of one range, keeps the longer one. */
  keep(range: number, begun: BegunRange): void {
    const other = this.#kept.get(range);
    const isKept = other === undefined ? this.#kept.size < this.#most : other.bytes < begun.bytes;
    if (!isKept || begun.bytes === 0 || this.#partial.has(range)) {
      this.#buffers.give(begun.buffer);
      return;
    }
    this.drop(range);
    this.#kept.set(range, begun);
  }

  /** Forgets the bytes of a range, because another holder has sent the whole range. */
  drop(range: number): void {
    const kept = this.#kept.get(range);
    if (kept !== undefined) this.#buffers.give(kept.buffer);
    this.#kept.delete(range);
  }

  /** Forgets the bytes of all ranges. */
  clear(): void {
    for (const range of [...this.#kept.keys()]) this.drop(range);
  }
}
