import { SwarmError } from '../../protocol/errors.ts';
import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape, type Shape, sameShape } from '../graph/shapes.ts';

/** Where the values of a weight lie in its file; offset and length in bytes. */
export interface WeightEntry {
  readonly offset: number;
  readonly length: number;
  readonly shape: Shape;
}

/** A copy of a matrix as whole numbers in blocks of a row, each with a scale. */
export interface BlockEntry {
  /** uint8 [rows, blocks, side·bits/8]: number + 2^(bits − 1); at 4 bits two in a byte, the first in its lower half. */
  readonly codes: WeightEntry;
  /** float32 [rows, blocks] */
  readonly scales: WeightEntry;
}

/** A matrix [rows, columns] that is kept in fewer bits, in both directions; both stand for the same numbers. */
export interface QuantisedEntry {
  readonly shape: readonly [rows: number, columns: number];
  readonly bits: 4 | 8;
  /** Numbers in a block. */
  readonly side: number;
  /** Rows of W: for products over its columns. */
  readonly plain: BlockEntry;
  /** Rows of Wᵀ: for products over its rows. */
  readonly transposed: BlockEntry;
}

/** Base weights on disk: raw, little-endian, every entry at an offset that is a multiple of 4,096 bytes. */
export interface WeightFile {
  readonly path: string;
  /** In float32. */
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** In fewer bits: no name is in both. @default none */
  readonly quantised?: ReadonlyMap<string, QuantisedEntry>;
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
  const bits = weights?.quantised?.get(name)?.bits;
  if (bits !== undefined) {
    throw new SwarmError(
      'ENGINE_WEIGHTS',
      `weight ${name} is kept in ${bits} bits, which this engine does not compute with; take onnx-cpu, or a base of 32 bits`,
      { name, bits },
    );
  }
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
