import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape, type Shape, sameShape } from '../graph/shapes.ts';
import { engineError } from './errors.ts';

/** Where the values of a weight lie in its file; offset and length in bytes. */
export interface WeightEntry {
  readonly offset: number;
  readonly length: number;
  readonly shape: Shape;
}

/** A copy of a matrix as whole numbers with scales; see lora/models/quantise.ts for both layouts. */
export interface BlockEntry {
  /** 4 bits: uint8 [rows, blocks, bytes of a block], two numbers in a byte. 8 bits: int8 [rows, 1, columns]. */
  readonly codes: WeightEntry;
  /** float32. 4 bits: [rows, blocks]. 8 bits: [rows of W, 1], the same ones for both copies. */
  readonly scales: WeightEntry;
}

/** A matrix W [rows, columns] that is kept in fewer bits, twice; both copies stand for the same numbers. */
export interface QuantisedEntry {
  readonly shape: readonly [rows: number, columns: number];
  readonly bits: 4 | 8;
  /** Rows of W. */
  readonly plain: BlockEntry;
  /** Rows of Wᵀ. */
  readonly transposed: BlockEntry;
}

/** A matrix W [rows, columns] of 8-bit numbers that is kept once: its rows are looked up, and it is multiplied in pieces. */
export interface TableEntry {
  readonly shape: readonly [rows: number, columns: number];
  /** int8 [rows, columns]. */
  readonly codes: WeightEntry;
  /** float32 [rows]: what the numbers of each row are multiplied with. */
  readonly scales: WeightEntry;
}

/** Base weights on disk: raw, little-endian, every entry at an offset that is a multiple of 4,096 bytes. */
export interface WeightFile {
  readonly path: string;
  /** In float32. */
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** In fewer bits: no name is in two of these. @default none */
  readonly quantised?: ReadonlyMap<string, QuantisedEntry>;
  /** Embedding and output head of a base of fewer bits. @default none */
  readonly tables?: ReadonlyMap<string, TableEntry>;
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
  const bits = weights?.tables?.has(name) ? 8 : weights?.quantised?.get(name)?.bits;
  if (bits !== undefined) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} is kept in ${bits} bits, which this engine does not compute with; take another one, or a base of 32 bits`,
      { name, bits },
    );
  }
  const entry = weights?.entries.get(name);
  if (weights === null || entry === undefined) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} ${formatShape(tensor.shape)} is not in ${weights?.path ?? 'any weight file: none was given'}`,
      { name, expected: tensor.shape, path: weights?.path },
    );
  }
  const length = elementCount(tensor.shape) * Float32Array.BYTES_PER_ELEMENT;
  if (!sameShape(entry.shape, tensor.shape) || entry.length !== length) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} in ${weights.path} is ${formatShape(entry.shape)} in ${entry.length} bytes, the model needs ${formatShape(tensor.shape)} in ${length}`,
      { name, path: weights.path, expected: tensor.shape, found: entry.shape, length: entry.length },
    );
  }
  return { path: weights.path, entry };
}
