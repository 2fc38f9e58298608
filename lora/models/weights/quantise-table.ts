/**
 * Quantises a matrix that is used for lookups and for matrix products, such as an embedding, to 8 bits with one scale
 * per row. One copy serves the forward and the backward pass, because both passes dequantise a few rows at a time.
 */

/** Largest integer. −128 is not used, so that both signs round in the same way. */
const LARGEST = 127;

/** Quantises a matrix given in pieces, in row-major order. */
export class TableQuantiser {
  /** The scale of each row. All scales are set after the last piece of the matrix has been added. */
  readonly scales: Float32Array;
  readonly #row: Float32Array;
  #filled = 0;
  #rows = 0;

  constructor(rows: number, columns: number) {
    this.scales = new Float32Array(rows);
    this.#row = new Float32Array(columns);
  }

  /**
   * Adds the next piece of the matrix. Returns the 8-bit integers of all rows that are complete with this
   * piece and that no earlier call returned.
   */
  add(values: Float32Array): Int8Array {
    const columns = this.#row.length;
    const numbers = new Int8Array(Math.floor((this.#filled + values.length) / columns) * columns);
    let done = 0;
    for (let taken = 0; taken < values.length; ) {
      const count = Math.min(values.length - taken, columns - this.#filled);
      this.#row.set(values.subarray(taken, taken + count), this.#filled);
      taken += count;
      this.#filled += count;
      if (this.#filled < columns) break;
      this.#roundRow(numbers.subarray(done, done + columns));
      done += columns;
      this.#filled = 0;
    }
    return numbers;
  }

  #roundRow(into: Int8Array): void {
    let largest = 0;
    for (const value of this.#row) largest = Math.max(largest, Math.abs(value));
    const scale = Math.fround(largest / LARGEST);
    this.scales[this.#rows++] = scale;
    if (scale === 0) return;
    // Rounding the scale to float32 may push the largest value just beyond LARGEST, so all numbers are
    // clamped.
    for (const [i, value] of this.#row.entries())
      into[i] = Math.max(-LARGEST, Math.min(LARGEST, Math.round(value / scale)));
  }
}
