import type { GraphNode, Tensor } from '../../graph/graph.ts';
import { engineError } from '../errors.ts';

/** Range of an integer input or constant whose values are row numbers of a table: from ≤ value < below. */
export interface IdRange {
  readonly from: number;
  readonly below: number;
}

const INT32: IdRange = { from: -(2 ** 31), below: 2 ** 31 };

/**
 * Returns the range of every input and constant whose values are row numbers of a table. Kernels treat numbers out of
 * range differently (TensorFlow on a GPU silently reads zeros), so values are checked before they are sent.
 */
export function idRanges(nodes: readonly GraphNode[]): Map<Tensor, IdRange> {
  const ranges = new Map<Tensor, IdRange>();
  for (const node of nodes) {
    const [first, ids, third] = node.inputs;
    switch (node.operation) {
      case 'gatherRows':
      case 'scatterAddRows':
        narrow(ranges, ids!, { from: 0, below: first!.shape[0]! });
        break;
      case 'rotary':
        narrow(ranges, ids!, { from: 0, below: third!.shape[0]! });
        break;
      case 'softmaxCrossEntropy':
        narrow(ranges, ids!, { from: INT32.from, below: first!.shape[1]! });
        break;
      case 'crossEntropyGradient':
        narrow(ranges, ids!, { from: 0, below: first!.shape[1]! });
        break;
    }
  }
  return ranges;
}

/** Narrows the range of the inputs and constants that a tensor of ids comes from. */
function narrow(ranges: Map<Tensor, IdRange>, tensor: Tensor, range: IdRange): void {
  if (tensor.node !== null) {
    const from = tensor.node.operation === 'clampLabels' ? INT32.from : range.from;
    for (const input of tensor.node.inputs) narrow(ranges, input, { from, below: range.below });
    return;
  }
  const known = ranges.get(tensor) ?? INT32;
  ranges.set(tensor, {
    from: Math.max(known.from, range.from),
    below: Math.min(known.below, range.below),
  });
}

/**
 * Converts int64 to int32, because TensorFlow.js has no int64. Token ids, positions, labels and 31-bit seeds fit into
 * int32.
 * @throws SwarmError ENGINE_FEED for a value that does not fit int32, ENGINE_RUN for a value out of `range`
 */
export function toInt32(name: string, values: BigInt64Array, range: IdRange = INT32): Int32Array {
  return Int32Array.from(values, (value) => {
    const number = Number(value);
    if (number >= range.from && number < range.below) return number;
    if (number < INT32.from || number >= INT32.below)
      throw engineError('ENGINE_FEED', `${name} holds ${value}, which does not fit a 32-bit integer`, {
        name,
        value: String(value),
      });
    throw engineError('ENGINE_RUN', `${name} holds row number ${number}; the table has ${range.below} rows`, {
      name,
      value: number,
      ...range,
    });
  });
}
