import { requireDType, type Tensor } from '../graph.ts';
import { resolveAxis, type Shape, sameShape, shapeError } from '../shapes.ts';
import { reshape } from './layout.ts';

export type Axes = number | readonly number[] | null;

/**
 * Sums over the given axes; null sums over all axes. Reduced axes are dropped, or kept with size 1.
 * @throws SwarmError GRAPH_SHAPE
 */
export function reduceSum(x: Tensor, axis: Axes = null, keepDims = false): Tensor {
  requireDType('reduceSum', x, 'float32');
  const axes = axesOf('reduceSum', axis, x.shape);
  if (axes.length === 0) return x;
  const kept = x.shape.map((size, index) => (axes.includes(index) ? 1 : size));
  const shape = keepDims ? kept : x.shape.filter((_, index) => !axes.includes(index));
  return x.graph.apply('sum', [x], { axes, keepDims }, [{ shape }], (backward) =>
    backward.add(0, () => broadcastTo(reshape(backward.gradient, kept), x.shape)),
  )[0]!;
}

/**
 * Repeats x to `shape`, along axes of size 1 and along leading axes that x lacks.
 * @throws SwarmError GRAPH_SHAPE
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  requireDType('broadcastTo', x, 'float32');
  if (sameShape(x.shape, shape)) return x;
  const offset = shape.length - x.shape.length;
  if (offset < 0 || !x.shape.every((size, axis) => size === 1 || size === shape[axis + offset])) {
    throw shapeError('broadcastTo', 'the first shape must broadcast to the second', x.shape, shape);
  }
  return x.graph.apply('broadcast', [x], { shape: [...shape] }, [{ shape }], (backward) =>
    backward.add(0, () => sumTo(backward.gradient, x.shape)),
  )[0]!;
}

/** Sums x over every axis along which `shape` was repeated to give x's shape; the adjoint of broadcasting. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const offset = x.shape.length - shape.length;
  const repeated = x.shape.flatMap((size, axis) =>
    axis < offset || shape[axis - offset] !== size ? [axis] : [],
  );
  return reshape(reduceSum(x, repeated), shape);
}

function axesOf(operation: string, axis: Axes, shape: Shape): number[] {
  if (axis === null) return shape.map((_, index) => index);
  const list = typeof axis === 'number' ? [axis] : axis;
  return [...new Set(list.map((one) => resolveAxis(operation, one, shape)))].sort((a, b) => a - b);
}
