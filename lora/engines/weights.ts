import { SwarmError } from '../../protocol/errors.ts';
import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape, type Shape, sameShape } from '../graph/shapes.ts';

/** Where the values of a weight lie in its file; offset and length in bytes. */
export interface WeightEntry {
  readonly offset: number;
  readonly length: number;
  readonly shape: Shape;
}

/** Base weights on disk: raw little-endian float32, every entry at an offset that is a multiple of 4,096 bytes. */
export interface WeightFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, WeightEntry>;
}

/**
 * The place of a graph's weight in the file.
 * @throws SwarmError ENGINE_WEIGHTS when it is not there or has another shape there
 */
export function locateWeight(
  name: string,
  tensor: Tensor,
  weights: WeightFile | null,
): { path: string; entry: WeightEntry } {
  const entry = weights?.entries.get(name);
  if (weights === null || entry === undefined) {
    throw new SwarmError(
      'ENGINE_WEIGHTS',
      `weight ${name} ${formatShape(tensor.shape)} is not in ${weights?.path ?? 'any weight file: none was given'}`,
      { name, expected: tensor.shape, path: weights?.path },
    );
  }
  const length = elementCount(tensor.shape) * Float32Array.BYTES_PER_ELEMENT;
  if (!sameShape(entry.shape, tensor.shape) || entry.length !== length) {
    throw new SwarmError(
      'ENGINE_WEIGHTS',
      `weight ${name} in ${weights.path} is ${formatShape(entry.shape)} in ${entry.length} bytes, the model needs ${formatShape(tensor.shape)} in ${length}`,
      { name, path: weights.path, expected: tensor.shape, found: entry.shape, length: entry.length },
    );
  }
  return { path: weights.path, entry };
}
