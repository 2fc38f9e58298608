import type { Tensor } from '../graph.ts';
import { elementCount, resolveAxis, type Shape, sameShape, shapeError } from '../shapes.ts';

/**
 * Returns the elements of x, in row-major order, with another shape. One size may be −1, which stands for the size that
 * fits.
 * @throws SwarmError GRAPH_SHAPE
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.filter((size) => size !== -1);
  const count = elementCount(x.shape);
  const inferred = known.length === shape.length ? 1 : count / elementCount(known);
  if (
    shape.length - known.length > 1 ||
    inferred * elementCount(known) !== count ||
    !Number.isInteger(inferred)
  ) {
    throw shapeError('reshape', 'both shapes must have the same number of elements', x.shape, shape);
  }
  const target = shape.map((size) => (size === -1 ? inferred : size));
  if (sameShape(target, x.shape)) return x;
  // A chain of reshapes is one reshape to the last shape.
  const source = x.node?.operation === 'reshape' ? x.node.inputs[0]! : x;
  if (source !== x) return reshape(source, target);
  return x.graph.apply('reshape', [x], { shape: target }, [{ shape: target, dtype: x.dtype }], (backward) =>
    backward.add(0, () => reshape(backward.gradient, x.shape)),
  )[0]!;
}

/**
 * Permutes axes: axis i of the result is axis permutation[i] of x. Without a permutation, swaps the last two axes.
 * @throws SwarmError GRAPH_SHAPE
 */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const axes = x.shape.map((_, axis) => axis);
  const perm = permutation ?? [...axes.slice(0, -2), ...axes.slice(-2).reverse()];
  if (perm.length !== axes.length || !axes.every((axis) => perm.includes(axis))) {
    throw shapeError('transpose', `${perm.join()} is not a permutation of its axes`, x.shape);
  }
  const shape = perm.map((axis) => x.shape[axis]!);
  const inverse = axes.map((axis) => perm.indexOf(axis));
  return x.graph.apply(
    'transpose',
    [x],
    { permutation: [...perm] },
    [{ shape, dtype: x.dtype }],
    (backward) => backward.add(0, () => transpose(backward.gradient, inverse)),
  )[0]!;
}

/** Returns the entries start ≤ i < end of one axis. @throws SwarmError GRAPH_SHAPE */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const along = resolveAxis('slice', axis, x.shape);
  const size = x.shape[along]!;
  if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start < end && end <= size)) {
    throw shapeError('slice', `${start} to ${end} is not a range of axis ${along}`, x.shape);
  }
  if (end - start === size) return x;
  const shape = x.shape.with(along, end - start);
  return x.graph.apply('slice', [x], { axis: along, start, end }, [{ shape, dtype: x.dtype }], (backward) =>
    backward.add(0, () => pad(backward.gradient, along, start, size - end)),
  )[0]!;
}

/** Adds zeros before and after x along one axis; the adjoint of slice. @throws SwarmError GRAPH_SHAPE */
export function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  const along = resolveAxis('pad', axis, x.shape);
  const size = x.shape[along]!;
  if (!(Number.isInteger(before) && Number.isInteger(after) && before >= 0 && after >= 0)) {
    throw shapeError(
      'pad',
      `it cannot add ${before} and ${after} zeros; both must be whole numbers of at least 0`,
      x.shape,
    );
  }
  if (before + after === 0) return x;
  const shape = x.shape.with(along, before + size + after);
  return x.graph.apply('pad', [x], { axis: along, before, after }, [{ shape, dtype: x.dtype }], (backward) =>
    backward.add(0, () => slice(backward.gradient, along, before, before + size)),
  )[0]!;
}

/** Concatenates tensors along one axis; all other axes must be equal. @throws SwarmError GRAPH_SHAPE */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  const first = parts[0];
  if (first === undefined) throw shapeError('concat', 'it needs at least one tensor');
  const along = resolveAxis('concat', axis, first.shape);
  let total = 0;
  for (const part of parts) {
    const fits = part.shape.length === first.shape.length && part.dtype === first.dtype;
    if (!fits || !part.shape.every((size, index) => index === along || size === first.shape[index])) {
      throw shapeError('concat', `all axes except ${along} must be equal`, first.shape, part.shape);
    }
    total += part.shape[along]!;
  }
  if (parts.length === 1) return first;
  const shape = first.shape.with(along, total);
  return first.graph.apply('concat', parts, { axis: along }, [{ shape, dtype: first.dtype }], (backward) => {
    let start = 0;
    for (const [index, part] of parts.entries()) {
      const from = start;
      start += part.shape[along]!;
      backward.add(index, () => slice(backward.gradient, along, from, from + part.shape[along]!));
    }
  })[0]!;
}
