/** Maximum number of sweeps over the matrix. The Jacobi method usually converges after six to ten sweeps. */
const MAX_SWEEPS = 30;

/** Eigenvalues, and the eigenvectors as the columns of an n×n matrix. */
export interface SymmetricEigen {
  readonly values: number[];
  readonly vectors: Float64Array;
}

/**
 * Computes eigenvalues and eigenvectors of a symmetric matrix with the cyclic Jacobi method (Golub and Van Loan, Matrix
 * Computations, section 8.5), which finds small eigenvalues of a positive matrix accurately.
 * @param matrix [n, n], row by row; stays unchanged
 */
export function symmetricEigen(matrix: Float64Array, n: number): SymmetricEigen {
  const m = Float64Array.from(matrix);
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  for (let sweep = 0; sweep < MAX_SWEEPS && offDiagonal(m, n) > 0; sweep++)
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(m, vectors, n, p, q);
  return { values: Array.from({ length: n }, (_, i) => m[i * n + i]!), vectors };
}

/** Computes the eigenvalues of a symmetric matrix [n, n], in any order. */
export function eigenvalues(matrix: Float64Array, n: number): number[] {
  return symmetricEigen(matrix, n).values;
}

/**
 * Returns the largest absolute value off the diagonal. An entry counts as 0 if it is below the rounding error of the
 * two diagonal entries in its row and column.
 */
function offDiagonal(m: Float64Array, n: number): number {
  let largest = 0;
  for (let p = 0; p < n; p++)
    for (let q = p + 1; q < n; q++) {
      const value = Math.abs(m[p * n + q]!);
      const rounding = Number.EPSILON * Math.sqrt(Math.abs(m[p * n + p]! * m[q * n + q]!));
      if (value > rounding) largest = Math.max(largest, value);
    }
  return largest;
}

/** Makes the entry (p, q) zero with a rotation of rows and columns p and q. */
function rotate(m: Float64Array, vectors: Float64Array, n: number, p: number, q: number): void {
  const off = m[p * n + q]!;
  if (off === 0) return;
  const theta = (m[q * n + q]! - m[p * n + p]!) / (2 * off);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (let k = 0; k < n; k++) {
    const [kp, kq] = [m[k * n + p]!, m[k * n + q]!];
    m[k * n + p] = c * kp - s * kq;
    m[k * n + q] = s * kp + c * kq;
  }
  for (let k = 0; k < n; k++) {
    const [pk, qk] = [m[p * n + k]!, m[q * n + k]!];
    m[p * n + k] = c * pk - s * qk;
    m[q * n + k] = s * pk + c * qk;
    const [vp, vq] = [vectors[k * n + p]!, vectors[k * n + q]!];
    vectors[k * n + p] = c * vp - s * vq;
    vectors[k * n + q] = s * vp + c * vq;
  }
  m[p * n + q] = 0;
  m[q * n + p] = 0;
}
