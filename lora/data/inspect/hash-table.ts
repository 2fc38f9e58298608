/** Hashes of token sequences, and a hash table with bounded memory. */

/** Maximum number of slots. At 16 bytes each, this many slots take 32 MiB and hold 1.5 million hashes. */
const MAX_SLOTS = 2 ** 21;
const FIRST_SLOTS = 2 ** 10;
/** Share of occupied slots at which the table grows. Above it, probing becomes slow. */
const MAX_LOAD = 0.7;

/**
 * A hash of 64 bits, of which a table uses 63. Among a million different sequences, the probability that any two have
 * the same hash is about 1 in 20 million.
 */
export interface Hash {
  high: number;
  low: number;
}

/** Hashes a sequence of 32-bit numbers to 64 bits, with the finaliser of MurmurHash3 on two lanes. */
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
 * A map from hashes to numbers. Whenever the map is full, it drops half of the hashes, chosen by one bit of the hash,
 * and ignores hashes with that bit from then on. A count over the kept hashes, multiplied by `scale`, estimates the
 * count over all hashes (adaptive sampling, Flajolet 1990).
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

  /** Number of hashes that each kept hash stands for; 1 if all hashes are kept. */
  get scale(): number {
    return 2 ** this.#level;
  }

  /** Number of different hashes kept. */
  get size(): number {
    return this.#used;
  }

  /** Returns whether `set` would keep this hash. */
  samples({ high }: Hash): boolean {
    return (high & (this.scale - 1)) === 0;
  }

  get(hash: Hash): number | undefined {
    const slot = this.#find(hash);
    return this.#taken(slot) ? this.#values[slot] : undefined;
  }

  /** Sets the value of a hash. Does nothing if the hash is not in the sample of hashes that a full table keeps. */
  set(hash: Hash, value: number): void {
    if (!this.samples(hash)) return;
    const slot = this.#find(hash);
    if (!this.#taken(slot)) {
      this.#used++;
      // A slot of zeros counts as free. The lowest bit of `low` is always set, so that no stored hash is zero.
      this.#keys[2 * slot] = hash.high;
      this.#keys[2 * slot + 1] = hash.low | 1;
    }
    this.#values[slot] = value;
    if (this.#used > MAX_LOAD * this.#slots) this.#grow();
  }

  #taken(slot: number): boolean {
    return this.#keys[2 * slot + 1] !== 0;
  }

  /** Returns the slot of the hash, or the free slot in which the hash would be stored. */
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
