import { RowCache } from './row-cache.ts';

/**
 * Minimum length of a stored prefix in tokens. With shorter prefixes, the cache would save little work.
 */
const MIN_TOKENS = 8;
/** Maximum number of entries. It is limited because a lookup compares the tokens with the tokens of every entry. */
const MAX_ENTRIES = 64;

interface Entry {
  /** Stands for everything that keys and values depend on besides the tokens (see {@link PrefixCache}). */
  readonly key: string;
  readonly tokens: readonly number[];
  readonly cache: RowCache;
}

/** The shape of one row's cache, and its memory limit. */
export interface PrefixCacheOptions {
  readonly shape: ConstructorParameters<typeof RowCache>[0];
  /** Maximum size of all entries together, in bytes. */
  readonly limit: number;
}

/**
 * Keys and values of earlier sequences, for requests that begin with the same tokens. An entry is used only for
 * requests with the same `key`, which stands for the adapter and the precision.
 */
export class PrefixCache {
  readonly #options: PrefixCacheOptions;
  /** Entries, from the least to the most recently used. */
  #entries: Entry[] = [];

  constructor(options: PrefixCacheOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#entries.reduce((sum, { cache }) => sum + cache.bytes, 0);
  }

  /**
   * Copies the keys and values of the longest known prefix of `tokens` to row 0 of `into`.
   * @param maxTokens maximum number of tokens to copy
   * @returns the number of tokens copied; 0 if no entry has a long enough prefix
   */
  restore(key: string, tokens: readonly number[], into: RowCache, maxTokens: number): number {
    let best: Entry | null = null;
    let longest = MIN_TOKENS - 1;
    for (const entry of this.#entries) {
      if (entry.key !== key) continue;
      const common = Math.min(commonLength(entry.tokens, tokens), maxTokens);
      if (common > longest) [best, longest] = [entry, common];
    }
    if (best === null) return 0;
    into.copyRow(0, best.cache, 0, longest);
    this.#entries = [...this.#entries.filter((entry) => entry !== best), best];
    return longest;
  }

  /**
   * Copies the keys and values of `tokens` from a row of another cache into a new entry. Removes entries that
   * are prefixes of the new entry.
   */
  store(key: string, tokens: readonly number[], from: RowCache, row: number): void {
    if (tokens.length < MIN_TOKENS) return;
    const { shape, limit } = this.#options;
    const related = this.#entries.filter((entry) => entry.key === key);
    if (related.some((entry) => commonLength(entry.tokens, tokens) === tokens.length)) return;
    const cache = new RowCache(shape, 1, tokens.length);
    if (cache.bytes > limit) return;
    cache.copyRow(0, from, row, tokens.length);
    this.#entries = this.#entries.filter(
      (entry) => entry.key !== key || commonLength(entry.tokens, tokens) < entry.tokens.length,
    );
    this.#entries.push({ key, tokens: [...tokens], cache });
    this.shrink(limit);
  }

  /** Removes the least recently used entries until the remaining entries take at most `limit` bytes. */
  shrink(limit: number): void {
    let bytes = this.bytes;
    while (this.#entries.length > 0 && (bytes > limit || this.#entries.length > MAX_ENTRIES)) {
      bytes -= this.#entries.shift()!.cache.bytes;
    }
  }

  /** Removes all entries of a key. */
  forget(key: string): void {
    this.#entries = this.#entries.filter((entry) => entry.key !== key);
  }
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
