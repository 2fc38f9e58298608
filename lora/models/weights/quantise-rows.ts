import type { QuantisedMatrix, Quantiser } from './quantiser.ts';

/**
 * Largest integer of an 8-bit weight. Only 7 of the 8 bits are used, because x86 processors without VNNI add two
 * products of a uint8 and an int8 in 16 bits, with saturation. With integers up to 63, the sum is at most 2 · 255 · 63
 * = 32,130, which fits into 16 bits.
 */
export const LARGEST_INT8 = 63;

/** Quantises a matrix W to 8 bits, with one scale for each row of W. */
export class RowQuantiser implements Quantiser {
  readonly #rows: number;
  readonly #columns: number;
  readonly #numbers: Int8Array;
  readonly #transposed: Int8Array;
  readonly #scales: Float32Array;
  readonly #current: Float32Array;
  #filled = 0;
  #row = 0;

  constructor(rows: number, columns: number) {
    this.#rows = rows;
    this.#columns = columns;
    this.#numbers = new Int8Array(rows * columns);
    this.#transposed = new Int8Array(rows * columns);
    this.#scales = new Float32Array(rows);
    this.#current = new Float32Array(columns);
  }

  add(values: Float32Array): void {
    for (let taken = 0; taken < values.length; ) {
      const count = Math.min(values.length - taken, this.#columns - this.#filled);
      this.#current.set(values.subarray(taken, taken + count), this.#filled);
      taken += count;
      this.#filled += count;
      if (this.#filled === this.#columns) this.#finishRow();
    }
  }

  finish(): QuantisedMatrix {
    const copy = (numbers: Int8Array) => ({ codes: new Uint8Array(numbers.buffer), scales: this.#scales });
    return { plain: copy(this.#numbers), transposed: copy(this.#transposed) };
  }

  #finishRow(): void {
    let largest = 0;
    for (const value of this.#current) largest = Math.max(largest, Math.abs(value));
    const scale = Math.fround(largest / LARGEST_INT8);
    this.#scales[this.#row] = scale;
    // Rounding the scale to float32 may push the largest weight just beyond the limit, so all numbers are
    // clamped.
    const limit = LARGEST_INT8;
    for (let column = 0; column < this.#columns; column++) {
      const nearest = scale === 0 ? 0 : Math.round(this.#current[column]! / scale);
      const number = Math.max(-limit, Math.min(limit, nearest));
      this.#numbers[this.#row * this.#columns + column] = number;
      this.#transposed[column * this.#rows + this.#row] = number;
    }
    this.#row++;
    this.#filled = 0;
  }
}
