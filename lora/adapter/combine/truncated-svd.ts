import { symmetricEigen } from '../symmetric-eigen.ts';

/** Singular values below this share of the largest are rounding errors of float32, and are left out. */
const MIN_SINGULAR = 1e-7;

/** The factors of a product B A of low rank. */
export interface Factors {
  readonly rank: number;
  readonly in: number;
  readonly out: number;
  /** [rank, in] */
  readonly a: Float64Array;
  /** [out, rank] */
  readonly b: Float64Array;
}

/**
 * Returns the best approximation of B A with a smaller rank (Eckart and Young 1936): A has orthonormal rows, and B is
 * U·S, as PEFT writes it. If B A has a smaller rank than `rank`, the remaining rows and columns are 0.
 *
 * The product B A is as large as the weight, so it is not computed. With BᵀB = V Λ Vᵀ, the columns of B V Λ^-½ are
 * orthonormal. Therefore Λ^½ Vᵀ A, a matrix of few rows, has the same singular values as B A.
 */
export function truncatedSvd(factors: Factors, rank: number): { a: Float32Array; b: Float32Array } {
  const { rank: r, in: width, out } = factors;
  const left = symmetricEigen(gram(factors.b, r, out, { stride: r, step: 1 }), r);
  const largest = Math.max(0, ...left.values);
  // An eigenvalue that is only a rounding error gets the root 0, and its direction is skipped below. Otherwise, that
  // direction would be divided by a number that is almost 0.
  const roots = left.values.map((value) => (value > MIN_SINGULAR ** 2 * largest ? Math.sqrt(value) : 0));
  const middle = new Float64Array(r * width);
  for (let k = 0; k < r; k++)
    for (let i = 0; i < r; i++) {
      const factor = roots[k]! * left.vectors[i * r + k]!;
      if (factor === 0) continue;
      for (let j = 0; j < width; j++) middle[k * width + j]! += factor * factors.a[i * width + j]!;
    }
  const right = symmetricEigen(gram(middle, r, width, { stride: 1, step: width }), r);
  const order = right.values
    .map((value, k) => ({ k, singular: Math.sqrt(Math.max(0, value)) }))
    .sort((one, two) => two.singular - one.singular);
  const least = MIN_SINGULAR * order[0]!.singular;
  const a = new Float32Array(rank * width);
  const b = new Float32Array(out * rank);
  for (const [row, { k, singular }] of order.slice(0, rank).entries()) {
    if (!(singular > least)) break;
    const vector = Float64Array.from({ length: r }, (_, i) => right.vectors[i * r + k]!);
    for (let j = 0; j < width; j++) {
      let sum = 0;
      for (let i = 0; i < r; i++) sum += vector[i]! * middle[i * width + j]!;
      a[row * width + j] = sum / singular;
    }
    // The new column of B is the matrix product of B and `column`, where column = V Λ^-½ · vector · singular.
    const column = Float64Array.from({ length: r }, (_, i) => {
      let sum = 0;
      for (let m = 0; m < r; m++)
        if (roots[m]! > 0) sum += (left.vectors[i * r + m]! / roots[m]!) * vector[m]!;
      return sum * singular;
    });
    for (let i = 0; i < out; i++) {
      let sum = 0;
      for (let m = 0; m < r; m++) sum += factors.b[i * r + m]! * column[m]!;
      b[i * rank + row] = sum;
    }
  }
  return { a, b };
}

/**
 * Returns the inner products of `count` vectors of `length` values: [count, count].
 * @param layout `stride`: distance between two values of a vector; `step`: distance between the starts of two vectors
 */
function gram(
  values: Float64Array,
  count: number,
  length: number,
  { stride, step }: { stride: number; step: number },
): Float64Array {
  const products = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = i; j < count; j++) {
      let sum = 0;
      for (let k = 0; k < length; k++) sum += values[i * step + k * stride]! * values[j * step + k * stride]!;
      products[i * count + j] = sum;
      products[j * count + i] = sum;
    }
  return products;
}
