/** How long the samples are, in tokens. */

/** Longer samples are told apart no more, but for the longest of all: this is the longest row of a job. */
const MAX_LENGTH = 131_072;
const BINS = 12;

export interface LengthBin {
  /** Tokens, both included. */
  from: number;
  to: number;
  samples: number;
}

export interface LengthSummary {
  samples: number;
  mean: number;
  shortest: number;
  median: number;
  /** 95 of 100 samples are no longer. */
  p95: number;
  longest: number;
  /** Equally wide up to the 99th of 100 samples; the last bin has the rest. */
  histogram: LengthBin[];
}

export class Lengths {
  private readonly counts = new Uint32Array(MAX_LENGTH + 1);
  private samples = 0;
  private tokens = 0;
  private longest = 0;

  add(length: number): void {
    const kept = Math.min(length, MAX_LENGTH);
    this.counts[kept] = this.counts[kept]! + 1;
    this.samples++;
    this.tokens += length;
    this.longest = Math.max(this.longest, length);
  }

  /** null where there was no sample. */
  summary(): LengthSummary | null {
    const { samples } = this;
    if (samples === 0) return null;
    return {
      samples,
      mean: this.tokens / samples,
      shortest: this.quantile(0),
      median: this.quantile(0.5),
      p95: this.quantile(0.95),
      longest: this.longest,
      histogram: this.histogram(),
    };
  }

  /** The length of the sample that has this share of the others below it. */
  private quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(share * this.samples));
    let seen = 0;
    for (let length = 0; length <= MAX_LENGTH; length++) {
      seen += this.counts[length]!;
      if (seen >= wanted) return length;
    }
    return MAX_LENGTH;
  }

  private histogram(): LengthBin[] {
    const [low, high] = [this.quantile(0), this.quantile(0.99)];
    const width = niceWidth((high - low + 1) / BINS);
    const bins: LengthBin[] = [];
    for (let from = Math.floor(low / width) * width; from <= high; from += width) {
      const last = from + width > high;
      const to = last ? Math.max(this.longest, from + width - 1) : from + width - 1;
      let samples = 0;
      for (let length = from; length <= Math.min(to, MAX_LENGTH); length++) samples += this.counts[length]!;
      bins.push({ from, to, samples });
    }
    return bins;
  }
}

/** 1, 2 or 5 times a power of ten, at least `width`. */
function niceWidth(width: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, width)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= width)!;
}
