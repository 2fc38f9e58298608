/**
 * Samples up to this length, in tokens, are counted with one counter for each length. 131,072 is the maximum length of
 * a job's packed rows. Longer samples are rare, so their lengths are kept in a list.
 */
const MAX_COUNTED = 131_072;
const BINS = 12;

export interface LengthBin {
  /** Minimum length in the bin, in tokens. */
  from: number;
  /** Maximum length in the bin, in tokens. */
  to: number;
  samples: number;
}

/** Lengths of the samples, in tokens. */
export interface LengthSummary {
  samples: number;
  mean: number;
  shortest: number;
  median: number;
  /** 95th percentile of the lengths. */
  p95: number;
  longest: number;
  /**
   * Bins of equal width up to the 99th percentile. The last bin also contains the samples beyond the 99th percentile.
   */
  histogram: LengthBin[];
}

/** Counts samples by their length. */
export class LengthCounter {
  readonly #counts = new Uint32Array(MAX_COUNTED + 1);
  readonly #long: number[] = [];
  #samples = 0;
  #tokens = 0;

  add(length: number): void {
    if (length <= MAX_COUNTED) this.#counts[length]!++;
    else this.#long.push(length);
    this.#samples++;
    this.#tokens += length;
  }

  /** Returns a summary of the lengths; null if there was no sample. */
  summary(): LengthSummary | null {
    const samples = this.#samples;
    if (samples === 0) return null;
    this.#long.sort((a, b) => a - b);
    return {
      samples,
      mean: this.#tokens / samples,
      shortest: this.#quantile(0),
      median: this.#quantile(0.5),
      p95: this.#quantile(0.95),
      longest: this.#quantile(1),
      histogram: this.#histogram(),
    };
  }

  /** Returns the smallest length such that at least this share of the samples has this length or less. */
  #quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(share * this.#samples));
    let seen = 0;
    for (const [length, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= wanted) return length;
    }
    return this.#long[wanted - seen - 1]!;
  }

  #histogram(): LengthBin[] {
    const [low, high, longest] = [this.#quantile(0), this.#quantile(0.99), this.#quantile(1)];
    const width = niceWidth((high - low + 1) / BINS);
    const bins: LengthBin[] = [];
    for (let from = Math.floor(low / width) * width; from <= high; from += width) {
      const last = from + width > high;
      const to = last ? Math.max(longest, from + width - 1) : from + width - 1;
      const counted = this.#counts.subarray(from, to + 1).reduce((sum, count) => sum + count, 0);
      const samples = counted + this.#long.filter((length) => length >= from && length <= to).length;
      bins.push({ from, to, samples });
    }
    return bins;
  }
}

/** Rounds a number up to 1, 2 or 5 times a power of ten. */
function niceWidth(width: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, width)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= width)!;
}
