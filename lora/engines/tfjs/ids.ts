import type { GraphNode, Tensor } from '../../graph/graph.ts';
import { engineError } from '../errors.ts';

/** What a whole number of an input or constant may be, because of the rows that it picks. */
export interface IdRange {
  /** Least value. */
  readonly from: number;
  /** Above the greatest. */
  readonly below: number;
}

const INT32: IdRange = { from: -(2 ** 31), below: 2 ** 31 };

/**
 * Ranges of all inputs and constants whose values pick rows of a table. Kernels do not agree on what lies outside
 * (TensorFlow's on a GPU read zeros and say nothing), so values are checked before they are sent.
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

/** Follows ids through the operations that move them to where they come from. */
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
 * TensorFlow.js has no int64: token numbers, positions, labels and 31-bit seeds are int32 here.
 * @throws SwarmError ENGINE_FEED for a value that int32 does not hold, ENGINE_RUN for one that is out of `range`
 */
export function toInt32(name: string, values: BigInt64Array, range: IdRange = INT32): Int32Array {
  return Int32Array.from(values, (value) => {
    const number = Number(value);
    if (number >= range.from && number < range.below) return number;
    if (number < INT32.from || number >= INT32.below)
      throw engineError('ENGINE_FEED', `${name} has ${value}; TensorFlow.js holds 32-bit integers only`, {
        name,
        value: String(value),
      });
    throw engineError('ENGINE_RUN', `${name} has ${number}; it picks a row below ${range.below}`, {
      name,
      value: number,
      ...range,
    });
  });
}
