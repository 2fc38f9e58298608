import { type SizedValue, sizedValue } from '../engines/sized-value.ts';
import { cachedHeadSize } from '../graph/ops.ts';
import { cacheNames, cacheWidth } from '../models/cached-sequences.ts';
import type { CommonConfig } from '../models/config.ts';

type Shape = Pick<CommonConfig, 'layers' | 'keyValueHeads' | 'headDim'>;

/** Returns the number of bytes that one token takes in a cache. */
export function tokenBytes(shape: Shape): number {
  return 2 * shape.layers * cacheWidth(shape) * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Keys and values of some rows in memory, for all layers. A layer has one array for keys and one for values, each of
 * shape [rows, KV, capacity, D] with KV key-value heads of padded size D. A graph reads and writes the arrays in place.
 */
export class RowCache {
  readonly #shape: Shape;
  readonly #headSize: number;
  /** Key and value arrays of the layers, by their names in the graph (see `cacheNames`). */
  #arrays: Map<string, Float32Array>;
  #rows: number;
  #capacity: number;
  /** Results of `values` by number of rows. They are kept, because making them again at each step takes time. */
  readonly #values = new Map<number, Readonly<Record<string, SizedValue>>>();

  constructor(shape: Shape, rows: number, capacity: number) {
    this.#shape = shape;
    this.#headSize = cachedHeadSize(shape.headDim);
    this.#rows = rows;
    this.#capacity = capacity;
    this.#arrays = this.#allocate();
  }

  get rows(): number {
    return this.#rows;
  }

  /** Number of tokens for which each row has space. */
  get capacity(): number {
    return this.#capacity;
  }

  get bytes(): number {
    return this.#rows * this.#capacity * tokenBytes(this.#shape);
  }

  /** Changes the size. Keeps `lengths[r]` tokens of row r. */
  resize(rows: number, capacity: number, lengths: readonly number[]): void {
    if (rows === this.#rows && capacity === this.#capacity) return;
    const larger = new RowCache(this.#shape, rows, capacity);
    for (const [row, length] of lengths.entries()) larger.copyRow(row, this, row, length);
    this.#arrays = larger.#arrays;
    this.#rows = rows;
    this.#capacity = capacity;
    this.#values.clear();
  }

  /** Copies the keys and values of the first `length` tokens of a row. `source` may be this cache. */
  copyRow(to: number, source: RowCache, from: number, length: number): void {
    const { keyValueHeads: heads } = this.#shape;
    const count = length * this.#headSize;
    for (const [name, target] of this.#arrays) {
      const values = source.#arrays.get(name)!;
      for (let head = 0; head < heads; head++) {
        const start = (from * heads + head) * source.#capacity * this.#headSize;
        target.set(
          values.subarray(start, start + count),
          (to * heads + head) * this.#capacity * this.#headSize,
        );
      }
    }
  }

  /** Returns the first `rows` rows as values for a graph, by the names of the graph's inputs. */
  values(rows: number): Readonly<Record<string, SizedValue>> {
    let known = this.#values.get(rows);
    if (known === undefined) {
      const shape = [rows, this.#shape.keyValueHeads, this.#capacity, this.#headSize];
      const count = shape.reduce((product, size) => product * size);
      known = Object.fromEntries(
        Array.from(this.#arrays, ([name, array]) => [name, sizedValue(array.subarray(0, count), shape)]),
      );
      this.#values.set(rows, known);
    }
    return known;
  }

  #allocate(): Map<string, Float32Array> {
    const size = this.#rows * this.#capacity * cacheWidth(this.#shape);
    const names = Array.from({ length: this.#shape.layers }, (_, layer) => Object.values(cacheNames(layer)));
    return new Map(names.flat().map((name) => [name, new Float32Array(size)]));
  }
}
