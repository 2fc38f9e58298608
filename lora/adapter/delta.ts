import type { AdaptedModule } from '../models/lora.ts';

/** The change scale·B A of one weight, computed row by row in the weight's stored shape. */
export interface Delta {
  /** Adds scale·(B A)[row] to the weight's row w in place; sums in double precision and rounds once. */
  addRow(w: Float32Array, row: number): void;
}

/**
 * Returns the change that LoRA matrices make to a module's weight.
 * @param a [r, in]
 * @param b [out, r]
 */
export function deltaOf(module: AdaptedModule, a: Float32Array, b: Float32Array): Delta {
  const { rank, scale, conv1d } = module;
  // `wide` is the right factor of the change, whose rows are as long as a row of the weight. It is A for scale·B A. A
  // Conv1D weight has the shape [in, out], so its change is scale·Aᵀ Bᵀ, and `wide` is Bᵀ.
  const wide = conv1d ? transposed(b, module.out, rank) : a;
  const factorOf = conv1d
    ? (row: number, r: number) => a[r * module.in + row]!
    : (row: number, r: number) => b[row * rank + r]!;
  return {
    addRow(w, row) {
      const change = new Float64Array(w.length);
      for (let r = 0; r < rank; r++) {
        const factor = scale * factorOf(row, r);
        const start = r * w.length;
        for (let j = 0; j < w.length; j++) change[j] = change[j]! + factor * wide[start + j]!;
      }
      for (let j = 0; j < w.length; j++) w[j] = w[j]! + change[j]!;
    },
  };
}

/** Transposes a matrix: [rows, columns] → [columns, rows]. */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}
