import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { OperationAttributes } from '../../graph/operations.ts';
import { vocabularyChunk } from '../../graph/ops.ts';
import type { TableEntry } from '../weights.ts';
import type { Emitter } from './emitter.ts';
import { type BlockNames, emitSum, finishProduct, isQuantisedProduct } from './quantised.ts';

/** A weight of a graph that is stored as a table of 8-bit rows. */
export interface Table {
  readonly entry: TableEntry;
  /** Returns the names of the ONNX values that hold the rows from `start` to `end` − 1. */
  rows(start: number, end: number): BlockNames;
}

/**
 * Emits a node that needs only some rows of a table at a time: a lookup, a slice of rows, or a matrix product. Returns
 * false for any other use, which needs the whole matrix (`emitTable`). Every use dequantises a row in the same way, so
 * all uses see the same numbers.
 */
export function lowerTableUse(
  node: GraphNode,
  tableOf: (operand: Tensor) => Table | undefined,
  inputs: readonly string[],
  outputs: readonly string[],
  emitter: Emitter,
): boolean {
  if (isQuantisedProduct(node, (operand) => tableOf(operand) !== undefined)) {
    lowerProduct(node, tableOf(node.inputs[1]!)!, inputs, outputs, emitter);
    return true;
  }
  const table = tableOf(node.inputs[0]!);
  if (table === undefined) return false;
  if (node.operation === 'gatherRows') {
    const { codes, scales } = table.rows(0, table.entry.shape[0]);
    const [own, factors] = [codes, scales].map((values) => emitter.emit('Gather', [values, inputs[1]!]));
    emitNumbers({ codes: own!, scales: factors! }, emitter, outputs);
    return true;
  }
  if (node.operation !== 'slice') return false;
  const { axis, start, end } = node.attributes as OperationAttributes['slice'];
  if (axis === 0) emitNumbers(table.rows(start, end), emitter, outputs);
  return axis === 0;
}

/** Emits the operation that dequantises a whole table to float32. */
export function emitTable({ entry, rows }: Table, emitter: Emitter): string {
  return emitNumbers(rows(0, entry.shape[0]), emitter);
}

function emitNumbers({ codes, scales }: BlockNames, { emit }: Emitter, outputs?: readonly string[]): string {
  return emit('DequantizeLinear', [codes, scales], { outputs, attributes: { axis: 0 } });
}

/**
 * Emits x·W or x·Wᵀ, where W is split into chunks of rows, with one matrix product for each chunk. The results are
 * concatenated along the columns for x·Wᵀ, and added for x·W.
 */
function lowerProduct(
  node: GraphNode<'gemm'>,
  { entry, rows }: Table,
  inputs: readonly string[],
  outputs: readonly string[],
  emitter: Emitter,
): void {
  const { emit, integers } = emitter;
  const [count, width] = entry.shape;
  const step = vocabularyChunk(node.outputs[0]!.shape[0]!, width);
  const { transposeB } = node.attributes;
  const parts: string[] = [];
  for (let start = 0; start < count; start += step) {
    const end = Math.min(count, start + step);
    const x = transposeB
      ? inputs[0]!
      : emit('Slice', [inputs[0]!, integers([start]), integers([end]), integers([1])]);
    const chunk = emitNumbers(rows(start, end), emitter);
    // Adds partial sums as soon as there are two, so that no more than two are in memory.
    if (!transposeB && parts.length === 2) parts.splice(0, 2, emit('Add', [...parts]));
    parts.push(emit('Gemm', [x, chunk], { attributes: { transB: transposeB ? 1 : 0 } }));
  }
  finishProduct(node, inputs, outputs, emitter, (options) =>
    transposeB
      ? emit('Concat', parts, { ...options, attributes: { axis: 1 } })
      : emitSum(parts, emitter, options),
  );
}
