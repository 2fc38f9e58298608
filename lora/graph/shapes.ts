import type { SwarmError } from '../../common/errors.ts';
import { graphError } from './errors.ts';

export type Shape = readonly number[];

/** Returns the number of elements of a tensor of this shape; 1 for a scalar. */
export function elementCount(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/**
 * Makes the error for a shape mismatch in an operation. `shapes` are the shapes of the operands, in argument
 * order.
 */
export function shapeError(
  operation: string,
  expectation: string,
  ...shapes: Shape[]
): SwarmError<'GRAPH_SHAPE'> {
  return graphError(
    'GRAPH_SHAPE',
    `${operation}: got ${shapes.map(formatShape).join(' and ')}; ${expectation}`,
    { operation, shapes },
  );
}

/**
 * Returns the shape of an elementwise operation. NumPy's broadcasting rule applies: with the shapes aligned at the last
 * axis, two sizes must be equal, or one of them must be 1.
 * @throws SwarmError GRAPH_SHAPE
 */
export function broadcastShapes(operation: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw shapeError(
        operation,
        'to broadcast, sizes must be equal or 1, compared from the last axis',
        a,
        b,
      );
    }
    return left === 1 ? right : left;
  });
}

/**
 * Resolves an axis to an index. A negative axis counts from the end.
 * @throws SwarmError GRAPH_SHAPE
 */
export function resolveAxis(operation: string, axis: number, shape: Shape): number {
  const resolved = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= shape.length) {
    throw shapeError(operation, `there is no axis ${axis}`, shape);
  }
  return resolved;
}
