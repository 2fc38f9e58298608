/** Types of quantised weight matrices, and of the quantisers that make them. */

/** One of the two stored copies of a quantised matrix, W or Wᵀ, as [rows, columns]. */
export interface Blocks {
  /**
   * At 4 bits, a code is the integer plus 8. A byte holds two codes, the first in its lower half. Shape: [rows, blocks,
   * bytes].
   * At 8 bits, a code is the integer as int8. Shape: [rows, columns].
   */
  readonly codes: Uint8Array;
  /**
   * At 4 bits, one scale per block: [rows, blocks]. At 8 bits, one scale per row of W. The copies of W and Wᵀ
   * then have the same scales.
   */
  readonly scales: Float32Array;
}

export interface QuantisedMatrix {
  readonly plain: Blocks;
  readonly transposed: Blocks;
}

/** Quantises a matrix given in pieces, in row-major order. Keeps only the quantised copies in memory. */
export interface Quantiser {
  add(values: Float32Array): void;
  /** Returns the quantised matrix. The caller must add all pieces first. */
  finish(): QuantisedMatrix;
}
