import type { ServedAdapter } from './adapters.ts';
import type { DecodeModel } from './decode-model.ts';
import { RowCache, tokenBytes } from './row-cache.ts';

/** The capacity of a cache is a multiple of this number of tokens, so a growing row rarely has to be copied. */
const CAPACITY_STEP = 256;

/** Returns the capacity in tokens of a cache that must hold this number of tokens. */
export function capacityFor(tokens: number): number {
  return Math.ceil(tokens / CAPACITY_STEP) * CAPACITY_STEP;
}

/** A sequence that is being continued. All its tokens but the last are in the cache. */
export interface BatchRow {
  readonly tokens: readonly number[];
  readonly adapter: ServedAdapter | null;
}

type Shape = ConstructorParameters<typeof RowCache>[0];

/** Rows that are continued together, one token at a time. They may differ in length and adapter. */
export class Batch<Row extends BatchRow> {
  readonly rows: Row[] = [];
  readonly #shape: Shape;
  readonly #cache: RowCache;

  constructor(shape: Shape) {
    this.#shape = shape;
    this.#cache = new RowCache(shape, 0, CAPACITY_STEP);
  }

  get bytes(): number {
    return this.#cache.bytes;
  }

  get cache(): RowCache {
    return this.#cache;
  }

  /** Returns the bytes of a cache for all rows and one more row of `tokens` tokens. If `tokens` is 0, adds no row. */
  bytesWith(tokens: number): number {
    const lengths = this.rows.map((row) => row.tokens.length);
    const rows = this.rows.length + (tokens > 0 ? 1 : 0);
    return rows * capacityFor(Math.max(1, tokens, ...lengths)) * tokenBytes(this.#shape);
  }

  /** Adds a row whose keys and values are in row 0 of a cache. */
  join(row: Row, from: RowCache): void {
    const place = this.rows.length;
    this.#fit(place + 1, row.tokens.length);
    this.#cache.copyRow(place, from, 0, row.tokens.length - 1);
    this.rows.push(row);
  }

  /** Removes a row. The last row moves to its place. */
  leave(row: Row): void {
    const place = this.rows.indexOf(row);
    const last = this.rows.pop()!;
    if (last !== row) {
      this.rows[place] = last;
      this.#cache.copyRow(place, this.#cache, this.rows.length, this.#cachedTokens(last));
    }
    // If the batch is empty now, frees its memory. If not, the memory of the row is kept for the next row.
    if (this.rows.length === 0) this.#cache.resize(0, CAPACITY_STEP, []);
  }

  /** Frees the memory of rows that have left. */
  compact(): void {
    const longest = Math.max(1, ...this.rows.map(({ tokens }) => tokens.length));
    this.#resize(this.rows.length, capacityFor(longest));
  }

  /** Runs the model on the last token of every row. Returns the logits of each row's next token. */
  async step(model: DecodeModel): Promise<Float32Array[]> {
    const { rows } = this;
    this.#fit(rows.length, Math.max(...rows.map(({ tokens }) => tokens.length)));
    return model.run({
      cache: this.#cache,
      tokens: rows.map(({ tokens }) => [tokens.at(-1)!]),
      cached: rows.map(({ tokens }) => tokens.length - 1),
      adapters: rows.map(({ adapter }) => adapter),
      wanted: [...rows.keys()],
    });
  }

  #fit(rows: number, tokens: number): void {
    this.#resize(Math.max(rows, this.#cache.rows), Math.max(capacityFor(tokens), this.#cache.capacity));
  }

  #resize(rows: number, capacity: number): void {
    this.#cache.resize(
      rows,
      capacity,
      this.rows.map((row) => this.#cachedTokens(row)),
    );
  }

  /**
   * Returns the number of tokens of a row to copy when the row is moved in memory. Until the model has been run on the
   * newest token, the cache does not hold that token. Its place is then copied without need, unless it lies beyond the
   * capacity.
   */
  #cachedTokens({ tokens }: Row): number {
    return Math.min(tokens.length, this.#cache.capacity);
  }
}
