/**
 * The random numbers of CPython 3.11's `random.Random`, bit for bit. lm-evaluation-harness draws few-shot examples and
 * bootstrap samples with them, so equal prompts and equal standard errors need the same numbers.
 */

const STATE_WORDS = 624;
const SHIFT = 397;
const MATRIX = 0x9908b0df;
const UPPER = 0x80000000;
const LOWER = 0x7fffffff;
/** 2^26 and 2^53. `random()` draws a number of 27 bits and one of 26, and returns (first · 2^26 + second) / 2^53. */
const LOW_BITS = 67108864;
const MANTISSA = 9007199254740992;
/**
 * Largest population that `sample` copies when it draws up to five items. For a larger population, `sample` keeps the
 * drawn positions in a set instead. CPython derives the number from the memory that a set takes.
 */
const SMALL_POOL = 21;

/** Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded and read as CPython 3.11 does. */
export class PythonRandom {
  readonly #state = new Uint32Array(STATE_WORDS);
  #next = STATE_WORDS;

  /** @param seed a whole number of at most 53 bits; as in Python, its sign is ignored */
  constructor(seed: number) {
    const magnitude = Math.abs(seed);
    const low = magnitude >>> 0;
    const high = Math.floor(magnitude / 2 ** 32);
    this.#seed(high === 0 ? [low] : [low, high]);
  }

  /** Returns a number in [0, 1) with 53 random bits. */
  random(): number {
    const high = this.#word() >>> 5;
    const low = this.#word() >>> 6;
    return (high * LOW_BITS + low) / MANTISSA;
  }

  /** Returns a whole number in [0, bound). @param bound from 1 to 2^32 − 1 */
  below(bound: number): number {
    const unused = Math.clz32(bound);
    let drawn = this.#word() >>> unused;
    while (drawn >= bound) drawn = this.#word() >>> unused;
    return drawn;
  }

  /** Draws `count` different items, like `random.sample`. */
  sample<T>(population: readonly T[], count: number): T[] {
    const size = population.length;
    if (count < 0 || count > size) throw new RangeError(`cannot draw ${count} of ${size} items`);
    const copied = SMALL_POOL + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
    if (size > copied) {
      const chosen = new Set<number>();
      while (chosen.size < count) chosen.add(this.below(size));
      return Array.from(chosen, (index) => population[index]!);
    }
    const pool = [...population];
    return Array.from({ length: count }, (_, i) => {
      const index = this.below(size - i);
      const item = pool[index]!;
      pool[index] = pool[size - i - 1]!;
      return item;
    });
  }

  /** Fills `into` with positions in [0, size), with repetition, like `random.choices(range(size), k=len(into))`. */
  choices(size: number, into: Uint32Array): void {
    for (let i = 0; i < into.length; i++) into[i] = Math.floor(this.random() * size);
  }

  /** Seeds the state, as `init_by_array` does in the reference implementation of the Mersenne Twister. */
  #seed(key: readonly number[]): void {
    const state = this.#state;
    state[0] = 19650218;
    for (let i = 1; i < STATE_WORDS; i++) state[i] = Math.imul(1812433253, mixed(state[i - 1]!)) + i;
    let i = 1;
    let j = 0;
    for (let k = Math.max(STATE_WORDS, key.length); k > 0; k--) {
      state[i] = (state[i]! ^ Math.imul(mixed(state[i - 1]!), 1664525)) + key[j]! + j;
      if (++i >= STATE_WORDS) {
        state[0] = state[STATE_WORDS - 1]!;
        i = 1;
      }
      if (++j >= key.length) j = 0;
    }
    for (let k = STATE_WORDS - 1; k > 0; k--) {
      state[i] = (state[i]! ^ Math.imul(mixed(state[i - 1]!), 1566083941)) - i;
      if (++i >= STATE_WORDS) {
        state[0] = state[STATE_WORDS - 1]!;
        i = 1;
      }
    }
    state[0] = UPPER;
    this.#next = STATE_WORDS;
  }

  /** Returns the next 32 random bits. */
  #word(): number {
    if (this.#next >= STATE_WORDS) this.#regenerate();
    let word = this.#state[this.#next++]!;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    word ^= word >>> 18;
    return word >>> 0;
  }

  #regenerate(): void {
    const state = this.#state;
    for (let i = 0; i < STATE_WORDS; i++) {
      const next = i + 1 === STATE_WORDS ? 0 : i + 1;
      const far = i + SHIFT < STATE_WORDS ? i + SHIFT : i + SHIFT - STATE_WORDS;
      const bits = (state[i]! & UPPER) | (state[next]! & LOWER);
      state[i] = state[far]! ^ (bits >>> 1) ^ ((bits & 1) === 0 ? 0 : MATRIX);
    }
    this.#next = 0;
  }
}

function mixed(word: number): number {
  return word ^ (word >>> 30);
}
