/** Types of quantised weight matrices, and of the quantisers that make them. */

/** One copy of a matrix [rows, columns]. */
export interface Blocks {
  /**
   * 4 bits: integer + 8, two per byte, the first in the lower half: [rows, blocks, bytes].
   * 8 bits: the integer as int8: [rows, columns].
   */
  readonly codes: Uint8Array;
  /** 4 bits: [rows, blocks]. 8 bits: one per row of W, the same in both copies. */
  readonly scales: Float32Array;
}

export interface QuantisedMatrix {
  readonly plain: Blocks;
  readonly transposed: Blocks;
}

/** Quantises a matrix given in pieces, in row-major order. Keeps only the quantised copies in memory. */
export interface Quantiser {
  add(values: Float32Array): void;
  /** Returns the copies; called after the last piece. */
  finish(): QuantisedMatrix;
}
