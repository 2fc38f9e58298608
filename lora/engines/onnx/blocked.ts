import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { OperationAttributes } from '../../graph/operations.ts';
import { engineError } from '../errors.ts';
import type { BlockedEntry } from '../weights.ts';
import { type Emitter, MICROSOFT } from './emitter.ts';
import { type BlockNames, finishProduct, isQuantisedProduct } from './quantised.ts';

/** Accuracy levels of MatMulNBits. Level 1 computes in float32. Level 4 rounds blocks of activations to 8 bits. */
const FLOAT32_ACCURACY = 1;
const ROUNDED_ACCURACY = 4;

const FLOAT = 1;

/** A weight of a graph that is stored in blocks for inference. */
export interface BlockedWeightUse {
  readonly entry: BlockedEntry;
  readonly names: BlockNames;
}

/**
 * Emits a node with a weight in blocks: a matrix product or a lookup of rows.
 * @throws SwarmError ENGINE_COMPILE for any other use, which decoding does not need
 */
export function lowerBlockedUse(
  node: GraphNode,
  weightOf: (operand: Tensor) => BlockedWeightUse | undefined,
  inputs: readonly string[],
  outputs: readonly string[],
  { emitter, roundActivations }: { emitter: Emitter; roundActivations: boolean },
): void {
  if (isQuantisedProduct(node, (operand) => weightOf(operand) !== undefined)) {
    const { entry, names } = weightOf(node.inputs[1]!)!;
    if (node.attributes.transposeB !== entry.isTransposed) {
      const [outs, , bytes] = entry.codes.shape as [number, number, number];
      const attributes = {
        K: entry.isTransposed ? entry.shape[0] : entry.shape[1],
        N: outs,
        bits: entry.bits,
        block_size: (bytes * 8) / entry.bits,
        accuracy_level: roundActivations ? ROUNDED_ACCURACY : FLOAT32_ACCURACY,
      };
      const operands = [inputs[0]!, names.codes, names.scales];
      finishProduct(node, inputs, outputs, emitter, (options) =>
        emitter.emit('MatMulNBits', operands, { ...options, attributes, domain: MICROSOFT }),
      );
      return;
    }
  }
  const table = weightOf(node.inputs[0]!);
  if (node.operation === 'gatherRows' && table !== undefined && table.entry.bits === 8) {
    lowerLookup(table, inputs[1]!, outputs, emitter);
    return;
  }
  const { operation } = node;
  const { transposeB } = node.attributes as Partial<OperationAttributes['gemm']>;
  throw engineError(
    'ENGINE_COMPILE',
    `onnx-cpu cannot compute ${operation}${transposeB === undefined ? '' : ` (transposeB ${transposeB})`} with a weight that is quantised in blocks`,
    { operation },
  );
}

/** Emits rows of an 8-bit matrix in float32. */
function lowerLookup(
  { entry, names }: BlockedWeightUse,
  ids: string,
  outputs: readonly string[],
  { emit, integers, scalar }: Emitter,
): void {
  const [, blocks, side] = entry.codes.shape as [number, number, number];
  const width = entry.shape[1];
  const [codes, scales] = [names.codes, names.scales].map((values) => emit('Gather', [values, ids]));
  const numbers = emit('Sub', [emit('Cast', [codes!], { attributes: { to: FLOAT } }), scalar(128)]);
  const scaled = emit('Mul', [numbers, emit('Unsqueeze', [scales!, integers([2])])]);
  const isWhole = blocks * side === width;
  const rows = emit('Reshape', [scaled, integers([-1, blocks * side])], isWhole ? { outputs } : {});
  if (!isWhole) emit('Slice', [rows, integers([0]), integers([width]), integers([1])], { outputs });
}
