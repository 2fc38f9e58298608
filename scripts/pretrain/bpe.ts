/**
 * Trains byte-level byte-pair encoding: Sennrich et al. 2016 (arXiv 1508.07909), on bytes as in GPT-2.
 *
 * A merge visits only the words that contain its pair, and updates the counts of their pairs. Ten megabytes of text
 * therefore take only seconds. If two pairs are equally frequent, the pair with the smaller ids is merged first. The
 * result therefore depends only on the text.
 */
import { SwarmError } from '../../common/errors.ts';

/**
 * Splits a text into words before merging, with the expression of GPT-2. The `ByteLevel` pre-tokenizer of
 * tokenizer.json splits in the same way.
 */
const PRE_TOKEN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Pair key = left × PAIR_BASE + right. Ids are far below PAIR_BASE, and keys far below 2^53. */
const PAIR_BASE = 2 ** 20;

export interface Bpe {
  /** Token strings by id, in the printable alphabet of `byteAlphabet`; special tokens first. */
  readonly vocabulary: readonly string[];
  /** Pairs of token strings, in the order in which the tokenizer merges them. */
  readonly merges: readonly (readonly [string, string])[];
}

/**
 * Returns GPT-2's printable character for each byte, by index: a printable byte keeps its own character, the others get
 * characters from U+0100 on.
 */
export function byteAlphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(prints ? byte : next++);
  });
}

/** Counts the words of `texts` as the pre-tokenizer splits them. */
export function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(PRE_TOKEN)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/**
 * Learns merges until the vocabulary (special tokens, 256 bytes, merges) has `size` entries or no pair occurs twice.
 * @throws SwarmError BPE_SIZE if `size` is too small for the special tokens and the 256 bytes
 */
export function trainBpe(words: ReadonlyMap<string, number>, size: number, special: readonly string[]): Bpe {
  const firstMerge = special.length + 256;
  if (size < firstMerge || size >= PAIR_BASE) {
    throw new SwarmError('BPE_SIZE', `vocabulary size ${size} is outside ${firstMerge}..${PAIR_BASE - 1}`, {
      size,
    });
  }
  const alphabet = byteAlphabet();
  // Byte ids are in the order of their characters, so that comparing ids gives the same result as comparing strings.
  const ordered = [...alphabet].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const idOfByte = alphabet.map((character) => special.length + ordered.indexOf(character));
  const vocabulary = [...special, ...ordered];
  const corpus = new Corpus(words, idOfByte);

  const merges: [string, string][] = [];
  while (vocabulary.length < size) {
    const best = corpus.mostFrequentPair();
    if (best === null) break;
    const [left, right] = best;
    corpus.merge(left, right, vocabulary.length);
    merges.push([vocabulary[left]!, vocabulary[right]!]);
    vocabulary.push(vocabulary[left]! + vocabulary[right]!);
  }
  return { vocabulary, merges };
}

interface Candidate {
  readonly key: number;
  readonly count: number;
}

/**
 * The words of the text as lists of symbols. For every pair of adjacent symbols, the corpus holds the count of the
 * pair, and the words that contain the pair or contained it before a merge.
 */
class Corpus {
  readonly #symbols: number[][] = [];
  readonly #weights: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #holders = new Map<number, Set<number>>();
  /** Binary heap of candidates. A popped entry with an outdated count is pushed again with the current count. */
  readonly #heap: Candidate[] = [];

  constructor(words: ReadonlyMap<string, number>, idOfByte: readonly number[]) {
    const encoder = new TextEncoder();
    for (const [word, weight] of words) {
      const symbols = Array.from(encoder.encode(word), (byte) => idOfByte[byte]!);
      const index = this.#symbols.push(symbols) - 1;
      this.#weights.push(weight);
      for (let i = 0; i + 1 < symbols.length; i++) this.#count(symbols[i]!, symbols[i + 1]!, weight, index);
    }
    for (const [key, count] of this.#counts) this.#push({ key, count });
  }

  /** Returns the pair with the highest count, or null if no pair occurs twice. Among equal counts, the smallest ids win. */
  mostFrequentPair(): [number, number] | null {
    for (let top = this.#pop(); top !== undefined; top = this.#pop()) {
      const count = this.#counts.get(top.key) ?? 0;
      if (count !== top.count) {
        if (count > 0) this.#push({ key: top.key, count });
        continue;
      }
      return count < 2 ? null : [Math.floor(top.key / PAIR_BASE), top.key % PAIR_BASE];
    }
    return null;
  }

  merge(left: number, right: number, merged: number): void {
    const key = left * PAIR_BASE + right;
    const grown = new Set<number>();
    for (const index of this.#holders.get(key) ?? []) {
      const before = this.#symbols[index]!;
      const weight = this.#weights[index]!;
      const after: number[] = [];
      for (let i = 0; i < before.length; i++) {
        if (before[i] === left && before[i + 1] === right) {
          after.push(merged);
          i++;
        } else after.push(before[i]!);
      }
      if (after.length === before.length) continue;
      for (let i = 0; i + 1 < before.length; i++) this.#count(before[i]!, before[i + 1]!, -weight, index);
      for (let i = 0; i + 1 < after.length; i++) {
        this.#count(after[i]!, after[i + 1]!, weight, index);
        grown.add(after[i]! * PAIR_BASE + after[i + 1]!);
      }
      this.#symbols[index] = after;
    }
    this.#counts.delete(key);
    this.#holders.delete(key);
    // Only pairs with the new symbol are pushed. The counts of older pairs can only have decreased, and they are in the heap.
    for (const pair of grown) {
      const isNew = pair % PAIR_BASE === merged || Math.floor(pair / PAIR_BASE) === merged;
      if (isNew) this.#push({ key: pair, count: this.#counts.get(pair)! });
    }
  }

  #count(left: number, right: number, weight: number, index: number): void {
    const key = left * PAIR_BASE + right;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + weight);
    if (weight < 0) return;
    const holders = this.#holders.get(key);
    if (holders === undefined) this.#holders.set(key, new Set([index]));
    else holders.add(index);
  }

  #push(candidate: Candidate): void {
    const heap = this.#heap;
    let i = heap.push(candidate) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!precedes(heap[i]!, heap[parent]!)) break;
      [heap[i], heap[parent]] = [heap[parent]!, heap[i]!];
      i = parent;
    }
  }

  #pop(): Candidate | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length > 0 && last !== undefined) {
      heap[0] = last;
      for (let i = 0; ; ) {
        let first = i;
        for (const child of [2 * i + 1, 2 * i + 2]) {
          if (child < heap.length && precedes(heap[child]!, heap[first]!)) first = child;
        }
        if (first === i) break;
        [heap[i], heap[first]] = [heap[first]!, heap[i]!];
        i = first;
      }
    }
    return top;
  }
}

function precedes(a: Candidate, b: Candidate): boolean {
  return a.count > b.count || (a.count === b.count && a.key < b.key);
}
