/** Hashes of token sequences, and a table of them that never outgrows its memory. */

/** Slots of the largest table: at 16 bytes each, 32 MiB, for 1.5 million hashes. */
const MAX_SLOTS = 2 ** 21;
const FIRST_SLOTS = 2 ** 10;
/** Probing gets slow when more than this share of the slots is taken. */
const MAX_LOAD = 0.7;

/** 64 bits, of which a table uses 63: two of a million sequences are taken for equal once in 20 million runs. */
export interface Hash {
  high: number;
  low: number;
}

/** Mixes numbers of 32 bits into a hash of 64, by the finaliser of MurmurHash3 on two lanes. */
export function hashOf(values: Iterable<number>): Hash {
  let [high, low] = [0x9e3779b9, 0x85ebca6b];
  for (const value of values) {
    high = finalise(Math.imul(high, 31) ^ value);
    low = finalise(Math.imul(low, 37) + value);
  }
  return { high: high >>> 0, low: low >>> 0 };
}

function finalise(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/**
 * A map from hashes to numbers. When it is full it keeps every second hash from then on, by a bit of the hash, so that
 * what it counts of the kept ones, times `scale`, estimates all (adaptive sampling, Flajolet 1990).
 */
export class HashTable {
  readonly #maxSlots: number;
  #keys: Uint32Array;
  #values: Float64Array;
  #slots: number;
  #used = 0;
  #level = 0;

  constructor({ maxSlots = MAX_SLOTS }: { maxSlots?: number } = {}) {
    this.#maxSlots = maxSlots;
    this.#slots = Math.min(FIRST_SLOTS, maxSlots);
    this.#keys = new Uint32Array(2 * this.#slots);
    this.#values = new Float64Array(this.#slots);
  }

  /** One kept hash stands for this many; 1: everything is counted exactly. */
  get scale(): number {
    return 2 ** this.#level;
  }

  /** Different hashes kept. */
  get size(): number {
    return this.#used;
  }

  /** Whether hashes like this are kept at all. */
  samples({ high }: Hash): boolean {
    return (high & (this.scale - 1)) === 0;
  }

  get(hash: Hash): number | undefined {
    const slot = this.#find(hash);
    return this.#taken(slot) ? this.#values[slot] : undefined;
  }

  /** Sets the value of a hash that is kept. */
  set(hash: Hash, value: number): void {
    if (!this.samples(hash)) return;
    const slot = this.#find(hash);
    if (!this.#taken(slot)) {
      this.#used++;
      // All zeros is a free slot; the lowest bit of `low` is given up for that.
      this.#keys[2 * slot] = hash.high;
      this.#keys[2 * slot + 1] = hash.low | 1;
    }
    this.#values[slot] = value;
    if (this.#used > MAX_LOAD * this.#slots) this.#grow();
  }

  #taken(slot: number): boolean {
    return this.#keys[2 * slot + 1] !== 0;
  }

  /** The hash's slot, or the free one where it would be. */
  #find({ high, low }: Hash): number {
    const mask = this.#slots - 1;
    let slot = finalise(high ^ (low | 1)) & mask;
    while (
      this.#taken(slot) &&
      (this.#keys[2 * slot] !== high || this.#keys[2 * slot + 1] !== (low | 1) >>> 0)
    ) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    if (this.#slots < this.#maxSlots) this.#slots *= 2;
    else this.#level++;
    this.#keys = new Uint32Array(2 * this.#slots);
    this.#values = new Float64Array(this.#slots);
    this.#used = 0;
    for (let slot = 0; slot < values.length; slot++) {
      if (keys[2 * slot + 1] === 0) continue;
      this.set({ high: keys[2 * slot]!, low: keys[2 * slot + 1]! }, values[slot]!);
    }
  }
}
