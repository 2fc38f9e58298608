import { type Backward, requireDType, type Tensor } from '../graph.ts';
import { sameShape, shapeError } from '../shapes.ts';
import { scale as scaleBy } from './elementwise.ts';
import { sumTo } from './reduce.ts';

export interface ProductOptions {
  /** Transposes the last two axes of a. @default false */
  transposeA?: boolean;
  /** Transposes the last two axes of b. @default false */
  transposeB?: boolean;
  /** Factor of the matrix product. @default 1 */
  scale?: number;
  /** Computes in float16 (see `gemm` in operations.ts). Only for 2-D operands. Gradients stay float32. @default false */
  float16?: boolean;
}

/**
 * Returns scale · op(a) · op(b). Both operands are 2-D, or both have the same higher rank with equal leading
 * axes: [.., m, k] · [.., k, n] → [.., m, n].
 * @throws SwarmError GRAPH_SHAPE
 */
export function matmul(a: Tensor, b: Tensor, options: ProductOptions = {}): Tensor {
  if (a.shape.length === 2 && b.shape.length === 2) return addmm(null, a, b, options);
  return batchedMatmul(a, b, options);
}

/**
 * Returns scale · x · wᵀ + addTo for x [N, in] and w [out, in], which is the layout of a Hugging Face linear
 * layer. The result has the shape [N, out]. `addTo` has this shape too (for a LoRA branch), or is a row
 * [out] (a bias). The product and the sum are one operation.
 * @throws SwarmError GRAPH_SHAPE
 */
export function linear(x: Tensor, w: Tensor, options: { scale?: number; addTo?: Tensor } = {}): Tensor {
  return addmm(options.addTo ?? null, x, w, { transposeB: true, scale: options.scale });
}

/**
 * Returns beta · c + scale · op(a) · op(b) for 2-D operands. The engine computes product and sum in one call,
 * so sums of products (LoRA branches, gradients of a tensor with several consumers) need no separate
 * addition. c has the shape of the result, or is a row [n] that is added to each row of the result (a bias),
 * or is null.
 * @throws SwarmError GRAPH_SHAPE
 */
export function addmm(
  c: Tensor | null,
  a: Tensor,
  b: Tensor,
  options: ProductOptions & { beta?: number } = {},
): Tensor {
  const { transposeA = false, transposeB = false, scale = 1, beta = 1, float16 = false } = options;
  const shape = productShape('matmul', a, b, transposeA, transposeB, 2);
  if (c !== null && !sameShape(c.shape, shape) && !sameShape(c.shape, shape.slice(1))) {
    throw shapeError('addmm', 'the addend must have the shape of the product or of its rows', c.shape, shape);
  }
  const inputs = c === null ? [a, b] : [a, b, c];
  const attributes = { transposeA, transposeB, alpha: scale, beta: c === null ? 1 : beta };
  const marked = float16 ? { ...attributes, float16 } : attributes;
  return a.graph.apply('gemm', inputs, marked, [{ shape }], (backward) => {
    if (c !== null) backward.add(2, () => sumTo(scaleBy(backward.gradient, beta), c.shape));
    productGradients(backward, a, b, { transposeA, transposeB, scale }, (left, right, opts, sum) =>
      addmm(sum, left, right, opts),
    );
  })[0]!;
}

function batchedMatmul(a: Tensor, b: Tensor, options: ProductOptions): Tensor {
  const { transposeA = false, transposeB = false, scale = 1 } = options;
  const shape = productShape('matmul', a, b, transposeA, transposeB, a.shape.length);
  if (!sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2))) {
    throw shapeError('matmul', 'the leading axes must be equal', a.shape, b.shape);
  }
  const attributes = { transposeA, transposeB, alpha: scale };
  return a.graph.apply('batchedMatmul', [a, b], attributes, [{ shape }], (backward) =>
    productGradients(backward, a, b, { transposeA, transposeB, scale }, batchedMatmul),
  )[0]!;
}

type Product = (a: Tensor, b: Tensor, options: ProductOptions, sum: Tensor | null) => Tensor;

/**
 * Gradient rule of a matrix product. For y = s·op(a)·op(b): d op(a) = s·dy·op(b)ᵀ and d op(b) = s·op(a)ᵀ·dy. If op
 * transposes an operand, the gradient of the operand is transposed back.
 */
function productGradients(
  backward: Backward,
  a: Tensor,
  b: Tensor,
  { transposeA, transposeB, scale }: Required<Omit<ProductOptions, 'float16'>>,
  product: Product,
): void {
  const dy = backward.gradient;
  const accumulate = (input: number, left: Tensor, right: Tensor, options: ProductOptions) => {
    if (product === batchedMatmul) backward.add(input, () => product(left, right, options, null));
    else backward.contribute(input, (sum) => product(left, right, options, sum));
  };
  if (transposeA) accumulate(0, b, dy, { transposeA: transposeB, transposeB: true, scale });
  else accumulate(0, dy, b, { transposeB: !transposeB, scale });
  if (transposeB) accumulate(1, dy, a, { transposeA: true, transposeB: transposeA, scale });
  else accumulate(1, a, dy, { transposeA: !transposeA, scale });
}

function productShape(
  operation: string,
  a: Tensor,
  b: Tensor,
  transposeA: boolean,
  transposeB: boolean,
  rank: number,
): number[] {
  requireDType(operation, a, 'float32');
  requireDType(operation, b, 'float32');
  if (rank < 2 || a.shape.length !== rank || b.shape.length !== rank) {
    throw shapeError(operation, 'operands must have the same rank, at least 2', a.shape, b.shape);
  }
  const [m, inner] = transposeA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [depth, n] = transposeB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  if (inner !== depth) {
    const flags = `${transposeA ? ', a transposed' : ''}${transposeB ? ', b transposed' : ''}`;
    throw shapeError(operation, `inner sizes ${inner} and ${depth} must be equal${flags}`, a.shape, b.shape);
  }
  return [...a.shape.slice(0, -2), m, n];
}
