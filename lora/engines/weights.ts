import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape, type Shape, sameShape } from '../graph/shapes.ts';
import { engineError } from './errors.ts';

/** Location of a weight's values in the weight file; offset and length in bytes. */
export interface WeightEntry {
  readonly offset: number;
  readonly length: number;
  readonly shape: Shape;
}

/**
 * A copy of a matrix as integer codes with scales. See lora/models/weights/quantise.ts for the layouts at 4 bits and at
 * 8 bits.
 */
export interface BlockEntry {
  /** With 4 bits: uint8 [rows, blocks, bytes of a block], two codes in a byte. With 8 bits: int8 [rows, 1, columns]. */
  readonly codes: WeightEntry;
  /**
   * float32. The shape is [rows, blocks] with 4 bits. With 8 bits it is [rows of W, 1], and the two copies of W (see
   * `QuantisedEntry`) share these scales.
   */
  readonly scales: WeightEntry;
}

/**
 * A matrix W [rows, columns] in 4 or 8 bits, stored twice: as W and as Wᵀ. Both copies stand for the same numbers.
 */
export interface QuantisedEntry {
  readonly shape: readonly [rows: number, columns: number];
  readonly bits: 4 | 8;
  /** Copy of W itself. */
  readonly plain: BlockEntry;
  /** Copy of the transpose Wᵀ. */
  readonly transposed: BlockEntry;
}

/**
 * A matrix W [rows, columns] stored once in 8 bits. Rows are looked up in it, and matrix products read it in chunks of
 * rows.
 */
export interface TableEntry {
  readonly shape: readonly [rows: number, columns: number];
  /** The 8-bit integers: int8 [rows, columns]. */
  readonly codes: WeightEntry;
  /** float32 [rows]: the factor of each row's codes. */
  readonly scales: WeightEntry;
}

/**
 * A matrix stored once in 4 or 8 bits for inference. A block holds the weights of 32 inputs of one output. Rows of an
 * 8-bit matrix can also be looked up.
 */
export interface BlockedEntry {
  /** Shape of the weight in the model. */
  readonly shape: readonly [rows: number, columns: number];
  /** Whether each output of the module is a column of the stored weight; otherwise each output is a row. */
  readonly isTransposed: boolean;
  readonly bits: 4 | 8;
  /**
   * uint8 [outputs, blocks, bytes of a block]. A 4-bit code q (−8 to 7) is stored as q + 8. A byte holds two of these
   * codes, the first in its lower half. An 8-bit code q is stored as q + 128.
   */
  readonly codes: WeightEntry;
  /** The scale by which the codes of each block are multiplied: float32 [outputs, blocks]. */
  readonly scales: WeightEntry;
}

/** The base's weights on disk: raw, little-endian, every entry at an offset that is a multiple of 4,096 bytes. */
export interface WeightFile {
  readonly path: string;
  /** Weights in float32. A name occurs in only one of the maps. */
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** Linear weights of an 8-bit or 4-bit base. @default none */
  readonly quantised?: ReadonlyMap<string, QuantisedEntry>;
  /** Embedding and output head of an 8-bit or 4-bit base, in 8 bits. @default none */
  readonly tables?: ReadonlyMap<string, TableEntry>;
  /** Matrices in 4 or 8 bits for inference. @default none */
  readonly blocked?: ReadonlyMap<string, BlockedEntry>;
}

/**
 * Finds a float32 weight of a graph in the weight file.
 * @throws SwarmError ENGINE_WEIGHTS when the file lacks the weight or has it in another shape or in fewer bits
 */
export function locateWeight(
  name: string,
  tensor: Tensor,
  weights: WeightFile | null,
): { path: string; entry: WeightEntry } {
  const fewer = weights?.quantised?.get(name) ?? weights?.blocked?.get(name);
  const bits = weights?.tables?.has(name) ? 8 : fewer?.bits;
  if (bits !== undefined) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} is stored in ${bits} bits, but this engine computes with 32 bits only`,
      { name, bits },
      { next: 'use another engine, or --base-bits 32' },
    );
  }
  const entry = weights?.entries.get(name);
  if (weights === null || entry === undefined) {
    throw engineError(
      'ENGINE_WEIGHTS',
      weights === null
        ? `the graph needs weight ${name} ${formatShape(tensor.shape)}, but there is no weight file`
        : `${weights.path} lacks weight ${name} ${formatShape(tensor.shape)}`,
      { name, expected: tensor.shape, path: weights?.path },
    );
  }
  const length = elementCount(tensor.shape) * Float32Array.BYTES_PER_ELEMENT;
  if (!sameShape(entry.shape, tensor.shape) || entry.length !== length) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} in ${weights.path} is ${formatShape(entry.shape)} in ${entry.length} bytes; the model needs ${formatShape(tensor.shape)} in ${length} bytes`,
      { name, path: weights.path, expected: tensor.shape, found: entry.shape, length: entry.length },
    );
  }
  return { path: weights.path, entry };
}
