/**
 * A small seeded random generator for shuffling and sampling (mulberry32). Equal seeds give equal numbers on every
 * machine. Do not use it for secrets.
 */
export class SeededRandom {
  #state: number;

  /**
   * @param seed one or more numbers, each taken modulo 2^32. The numbers are mixed, so the seed (seed, epoch) gives
   *   different random numbers in each epoch.
   */
  constructor(...seed: number[]) {
    this.#state = 0x9e3779b9;
    for (const part of seed) this.#state = (Math.imul(this.#next() ^ (part | 0), 0x85ebca6b) + part) | 0;
  }

  /** Returns a uniform number in [0, 1) with 32 random bits. */
  uniform(): number {
    return this.#next() / 2 ** 32;
  }

  /** Returns a uniform integer in [0, bound). */
  integer(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Returns a standard normal number (Box and Muller 1958). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles in place (Fisher and Yates) and returns the array. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }

  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }
}
