/** Types of quantised weight matrices, and of the quantisers that make them. */

/** One of the two stored copies of a quantised matrix: W, or its transpose Wᵀ. */
export interface Blocks {
  /**
   * The quantised integers, one code for each weight. At 4 bits, a code is the integer plus 8, and a byte
   * holds two codes, the first one in its lower half. The shape is then [rows, blocks per row, bytes per
   * block]. At 8 bits, a code is the integer as int8, and the shape is [rows, columns].
   */
  readonly codes: Uint8Array;
  /**
   * The factors that turn the integers into weights. At 4 bits, each block has one scale, and the shape is
   * [rows, blocks per row]. At 8 bits, each row of W has one scale, and both copies hold the same scales.
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
