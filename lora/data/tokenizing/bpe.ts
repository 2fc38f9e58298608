import { type Part, unsupported } from './part.ts';

/**
 * All ids must be below this number, so that a pair of ids fits into the 53 bits of an exact double. Real vocabularies
 * have up to 2¹⁸ tokens.
 */
const MAX_VOCABULARY = 2 ** 26;
/** Maximum number of words whose tokens are cached. */
const CACHED_WORDS = 20_000;
/** Maximum length of a cached word, in UTF-16 units. Longer words rarely occur again. */
const CACHED_LENGTH = 64;

/**
 * Encodes words by byte-pair encoding: adjacent pairs of symbols are merged in the order of their rank, then from left
 * to right (Sennrich et al. 2016, section 3.2). A character without a token becomes the tokens of its UTF-8 bytes. If
 * the vocabulary lacks these tokens, the character becomes the unknown token. If there is no unknown token, the character
 * is left out. A heap of possible merges makes the time n log n for n characters.
 *
 * Unlike this class, @huggingface/tokenizers 0.2.0 fuses unknown tokens across words.
 */
export class BytePairEncoder {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly #ranks = new Map<number, number>();
  readonly #merged: Int32Array;
  readonly #stride: number;
  readonly #unknown: number | null;
  readonly #fuseUnknown: boolean;
  readonly #byteIds: readonly number[] | null;
  readonly #ignoreMerges: boolean;
  readonly #cache = new Map<string, readonly number[]>();

  /** @throws TOKENIZER_UNSUPPORTED; Error if merges and vocabulary contradict each other */
  constructor(model: Part) {
    const { vocab, merges } = model;
    if (model.type !== undefined && model.type !== 'BPE') throw unsupported('model', model.type);
    if (!Array.isArray(merges) || typeof vocab !== 'object' || vocab === null || Array.isArray(vocab))
      throw unsupported('model', 'a vocabulary without merges');
    for (const field of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
      if (model[field]) throw unsupported(`model.${field}`, model[field]);
    }
    this.vocabulary = new Map(Object.entries(vocab as Record<string, number>));
    for (const [token, id] of this.vocabulary) {
      if (!Number.isInteger(id) || id < 0 || id >= MAX_VOCABULARY)
        throw new Error(`the token ${JSON.stringify(token)} has the id ${JSON.stringify(id)}`);
    }
    this.#stride = [...this.vocabulary.values()].reduce((most, id) => Math.max(most, id), 0) + 1;
    this.#merged = new Int32Array(merges.length);
    merges.forEach((merge: string | [string, string], rank) => {
      const [left, right, ...more] = typeof merge === 'string' ? merge.split(' ') : merge;
      const ids = [left, right, `${left}${right}`].map((token) => this.vocabulary.get(token!));
      if (more.length > 0 || ids.includes(undefined))
        throw new Error(
          `merge ${rank} (${JSON.stringify(merge)}) names tokens that are not in the vocabulary`,
        );
      const [a, b, c] = ids as [number, number, number];
      this.#ranks.set(a * this.#stride + b, rank);
      this.#merged[rank] = c;
    });
    this.#unknown = this.vocabulary.get(String(model.unk_token)) ?? null;
    if (typeof model.unk_token === 'string' && this.#unknown === null)
      throw new Error(`the unknown token ${JSON.stringify(model.unk_token)} is not in the vocabulary`);
    this.#fuseUnknown = model.fuse_unk === true;
    this.#ignoreMerges = model.ignore_merges === true;
    this.#byteIds = model.byte_fallback === true ? this.#bytes() : null;
  }

  /** Appends the tokens of a word to `ids`. */
  encode(word: string, ids: number[]): void {
    const known = this.#cache.get(word);
    if (known !== undefined) {
      for (const id of known) ids.push(id);
      return;
    }
    const whole = this.#ignoreMerges ? this.vocabulary.get(word) : undefined;
    const found = whole === undefined ? this.#merge(this.#symbols(word)) : [whole];
    for (const id of found) ids.push(id);
    if (word.length > CACHED_LENGTH) return;
    if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
    this.#cache.set(word, found);
  }

  #bytes(): number[] {
    return Array.from({ length: 256 }, (_, byte) => {
      const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
      return this.vocabulary.get(name) ?? -1;
    });
  }

  #symbols(word: string): Int32Array {
    const ids: number[] = [];
    let afterUnknown = false;
    for (const character of word) {
      const id = this.vocabulary.get(character);
      const bytes = id === undefined ? this.#fallback(character) : null;
      if (id !== undefined) ids.push(id);
      else if (bytes !== null) for (const byte of bytes) ids.push(byte);
      else {
        if (this.#unknown !== null && !(this.#fuseUnknown && afterUnknown)) ids.push(this.#unknown);
        afterUnknown = true;
        continue;
      }
      afterUnknown = false;
    }
    return Int32Array.from(ids);
  }

  #fallback(character: string): number[] | null {
    if (this.#byteIds === null) return null;
    const ids = [...Buffer.from(character)].map((byte) => this.#byteIds![byte]!);
    return ids.includes(-1) ? null : ids;
  }

  /** Merges symbols in a linked list. `ids[i]` becomes −1 when symbol i is merged into the symbol before it. */
  #merge(ids: Int32Array): number[] {
    const { length } = ids;
    const next = Int32Array.from({ length }, (_, i) => i + 1);
    const previous = Int32Array.from({ length }, (_, i) => i - 1);
    const heap = new MergeHeap();
    const consider = (left: number): void => {
      const right = left < 0 ? length : next[left]!;
      if (right >= length) return;
      const rank = this.#ranks.get(ids[left]! * this.#stride + ids[right]!);
      if (rank !== undefined) heap.push(rank, left);
    };
    for (let i = 0; i + 1 < length; i++) consider(i);
    for (let top = heap.pop(); top !== null; top = heap.pop()) {
      const [rank, left] = top;
      const right = next[left]!;
      if (ids[left] === -1 || right >= length) continue;
      // Skip a pair that has changed since it was pushed onto the heap.
      if (this.#ranks.get(ids[left]! * this.#stride + ids[right]!) !== rank) continue;
      ids[left] = this.#merged[rank]!;
      ids[right] = -1;
      next[left] = next[right]!;
      if (next[left]! < length) previous[next[left]!] = left;
      consider(previous[left]!);
      consider(left);
    }
    return [...ids.filter((id) => id !== -1)];
  }
}

/** All positions are below this number, so that rank and position together fit into the 53 bits of an exact double. */
const POSITIONS = 2 ** 31;

/**
 * A heap of possible merges. The merge with the lowest rank comes first, and among equal ranks the leftmost
 * merge. A merge is stored as rank × 2³¹ + position.
 */
class MergeHeap {
  readonly #items: number[] = [];

  push(rank: number, position: number): void {
    const items = this.#items;
    const value = rank * POSITIONS + position;
    let i = items.length;
    items.push(value);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (items[parent]! <= value) break;
      items[i] = items[parent]!;
      i = parent;
    }
    items[i] = value;
  }

  pop(): [rank: number, position: number] | null {
    const items = this.#items;
    if (items.length === 0) return null;
    const top = items[0]!;
    const last = items.pop()!;
    const { length } = items;
    if (length > 0) {
      let i = 0;
      for (let child = 1; child < length; child = 2 * i + 1) {
        if (child + 1 < length && items[child + 1]! < items[child]!) child++;
        if (items[child]! >= last) break;
        items[i] = items[child]!;
        i = child;
      }
      items[i] = last;
    }
    return [Math.floor(top / POSITIONS), top % POSITIONS];
  }
}
