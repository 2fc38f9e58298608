import { basename } from 'node:path';
import type { Tensor } from '../../graph/graph.ts';
import { formatShape, sameShape } from '../../graph/shapes.ts';
import { engineError } from '../errors.ts';
import {
  type BlockedEntry,
  locateWeight,
  type QuantisedEntry,
  type TableEntry,
  type WeightEntry,
  type WeightFile,
} from '../weights.ts';
import type { OnnxInitializer } from './protobuf.ts';
import type { BlockNames, Direction } from './quantised.ts';

/** A weight of a graph, with its format and its location in the weight file. */
export type StoredWeight = Float32Weight | QuantisedWeight | TableWeight | BlockedWeight;
type Float32Weight = Stored<'float32', WeightEntry>;
export type QuantisedWeight = Stored<'quantised', QuantisedEntry>;
type TableWeight = Stored<'table', TableEntry>;
export type BlockedWeight = Stored<'blocked', BlockedEntry>;

interface Stored<Kind, Entry> {
  readonly kind: Kind;
  readonly name: string;
  readonly path: string;
  readonly entry: Entry;
}

/**
 * Finds a weight of a graph in the weight file, in any format.
 * @throws SwarmError ENGINE_WEIGHTS when the file lacks the weight or has it in another shape
 */
export function locateStored(name: string, tensor: Tensor, weights: WeightFile | null): StoredWeight {
  const quantised = weights?.quantised?.get(name);
  const table = weights?.tables?.get(name);
  const blocked = weights?.blocked?.get(name);
  const entry = quantised ?? table ?? blocked;
  if (entry === undefined) return { kind: 'float32', name, ...locateWeight(name, tensor, weights) };
  const { path } = weights!;
  if (!sameShape(entry.shape, tensor.shape)) {
    throw engineError(
      'ENGINE_WEIGHTS',
      `weight ${name} in ${path} is ${formatShape(entry.shape)}; the model needs ${formatShape(tensor.shape)}`,
      { name, path, expected: tensor.shape, found: entry.shape },
    );
  }
  if (quantised !== undefined) return { kind: 'quantised', name, path, entry: quantised };
  if (table !== undefined) return { kind: 'table', name, path, entry: table };
  return { kind: 'blocked', name, path, entry: blocked! };
}

/** A range of bytes of a weight file. */
type FileRange = Exclude<OnnxInitializer['data'], Uint8Array>;

/** Returns the range of a whole weight. */
export function wholeRange({ path, entry }: Float32Weight): FileRange {
  return fileRange(path, entry);
}

/** Returns the range of rows start ≤ row < end of a weight. */
export function rowsRange({ path, entry }: Float32Weight, start: number, end: number): FileRange {
  return fileRange(path, rowsOf(entry, entry.length / entry.shape[0]!, start, end));
}

/** Initializers for the codes and scales of a quantised matrix, with their names. */
export interface StoredBlocks {
  readonly names: BlockNames;
  readonly initializers: readonly OnnxInitializer[];
}

/**
 * Returns the codes and scales of a weight, or of its transpose, in the shapes that the kernels for matrix
 * products take.
 */
export function productBlocks(weight: QuantisedWeight, direction: Direction): StoredBlocks {
  const { name, entry } = weight;
  const { codes, scales } = entry[direction];
  const shapes = { codes: entry.bits === 4 ? codes.shape : flat(codes), scales: scales.shape };
  return blocksOf(`q:${name}:${direction}`, weight, direction, shapes);
}

/** Returns the codes and scales of a weight in the shapes that `emitDense` takes. */
export function denseBlocks(weight: QuantisedWeight): StoredBlocks {
  const { name, entry } = weight;
  const { codes, scales } = entry.plain;
  const shapes = { codes: flat(codes), scales: entry.bits === 4 ? scales.shape : [codes.shape[0]!] };
  return blocksOf(`d:${name}`, weight, 'plain', shapes);
}

function blocksOf(
  name: string,
  { path, entry }: QuantisedWeight,
  direction: Direction,
  shapes: { codes: readonly number[]; scales: readonly number[] },
): StoredBlocks {
  const { codes, scales } = entry[direction];
  return named(name, [
    { dtype: entry.bits === 4 ? 'uint8' : 'int8', shape: shapes.codes, data: fileRange(path, codes) },
    { dtype: 'float32', shape: shapes.scales, data: fileRange(path, scales) },
  ]);
}

/** Returns the blocks of a matrix for inference. */
export function inferenceBlocks({ name, path, entry: { codes, scales } }: BlockedWeight): StoredBlocks {
  return named(`b:${name}`, [
    { dtype: 'uint8', shape: codes.shape, data: fileRange(path, codes) },
    { dtype: 'float32', shape: scales.shape, data: fileRange(path, scales) },
  ]);
}

/** Returns rows start ≤ row < end of a table. */
export function tableRows({ name, path, entry }: TableWeight, start: number, end: number): StoredBlocks {
  const { shape, codes, scales } = entry;
  const [, columns] = shape;
  const rows = end - start;
  return named(`r:${name}:${start}-${end}`, [
    { dtype: 'int8', shape: [rows, columns], data: fileRange(path, rowsOf(codes, columns, start, end)) },
    { dtype: 'float32', shape: [rows], data: fileRange(path, rowsOf(scales, SCALE_BYTES, start, end)) },
  ]);
}

const SCALE_BYTES = Float32Array.BYTES_PER_ELEMENT;

function named(
  name: string,
  [codes, scales]: readonly [Omit<OnnxInitializer, 'name'>, Omit<OnnxInitializer, 'name'>],
): StoredBlocks {
  const names = { codes: `${name}:codes`, scales: `${name}:scales` };
  return {
    names,
    initializers: [
      { name: names.codes, ...codes },
      { name: names.scales, ...scales },
    ],
  };
}

/** Flattens the shape of blocks: [rows, blocks, bytes of a block] → [rows, bytes of a row]. */
function flat({ shape }: WeightEntry): number[] {
  const [rows, blocks, bytes] = shape as readonly [number, number, number];
  return [rows, blocks * bytes];
}

type Span = Pick<WeightEntry, 'offset' | 'length'>;

function rowsOf({ offset }: Span, rowBytes: number, start: number, end: number): Span {
  return { offset: offset + start * rowBytes, length: (end - start) * rowBytes };
}

function fileRange(path: string, { offset, length }: Span): FileRange {
  return { file: basename(path), offset, length };
}
