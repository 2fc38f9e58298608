import { SwarmError } from '../../../protocol/errors.ts';
import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { OperationAttributes } from '../../graph/operations.ts';
import { formatShape, sameShape } from '../../graph/shapes.ts';
import type { QuantisedEntry, WeightFile } from '../weights.ts';
import { type Emitter, MICROSOFT } from './lower.ts';

/** ONNX value names of a copy of a weight. */
export interface BlockNames {
  readonly codes: string;
  readonly scales: string;
}

/**
 * How onnxruntime multiplies: 4 rounds blocks of the activations to 8 bits and multiplies whole numbers, 1 multiplies in
 * float32. Decision 012 has what that costs and gains.
 */
export type AccuracyLevel = 1 | 4;

type Gemm = GraphNode<'gemm'>;

/** Whether the node is x·W or x·Wᵀ with `weight` as its second operand and nowhere else. */
export function isQuantisedProduct(node: GraphNode, isQuantised: (operand: Tensor) => boolean): node is Gemm {
  if (node.operation !== 'gemm') return false;
  const { transposeA } = node.attributes as OperationAttributes['gemm'];
  const [x, weight, addend] = node.inputs;
  return !transposeA && isQuantised(weight!) && !isQuantised(x!) && !(addend && isQuantised(addend));
}

/** The product with the copy of the weight whose blocks lie along the axis that is summed over. */
export function lowerQuantisedProduct(
  { attributes: { transposeB, alpha, beta } }: Gemm,
  [x, , addend]: readonly string[],
  outputs: readonly string[],
  weight: { entry: QuantisedEntry; names: BlockNames; accuracy: AccuracyLevel },
  { emit, scalar }: Emitter,
): void {
  const { shape, bits, side } = weight.entry;
  const [n, k] = transposeB ? shape : [shape[1], shape[0]];
  const attributes = { K: k, N: n, bits, block_size: side, accuracy_level: weight.accuracy };
  const last = (step: 'product' | 'scaled') =>
    (step === 'product' && alpha === 1 && addend === undefined) || (step === 'scaled' && addend === undefined)
      ? { outputs }
      : {};
  const product = emit('MatMulNBits', [x!, weight.names.codes, weight.names.scales], {
    ...last('product'),
    attributes,
    domain: MICROSOFT,
  });
  const scaled = alpha === 1 ? product : emit('Mul', [product, scalar(alpha)], last('scaled'));
  if (addend === undefined) return;
  emit('Add', [scaled, beta === 1 ? addend : emit('Mul', [addend, scalar(beta)])], { outputs });
}

/**
 * The weight as the float32 matrix that its numbers stand for: where an operation is no product with it.
 * `names` must be no constants to onnxruntime, which would compute the matrix once and keep it.
 */
export function emitDense(
  { shape: [rows, columns], bits, side }: QuantisedEntry,
  names: BlockNames,
  { emit, integers, scalar, byte }: Emitter,
): string {
  const blocks = Math.ceil(columns / side);
  const codes =
    bits === 8 ? names.codes : emitHalves(names.codes, [rows, blocks, side], { emit, integers, byte });
  const numbers = emit('Sub', [emit('Cast', [codes], { attributes: { to: 1 } }), scalar(2 ** (bits - 1))]);
  const scales = emit('Reshape', [names.scales, integers([rows, blocks, 1])]);
  const values = emit('Reshape', [emit('Mul', [numbers, scales]), integers([rows, blocks * side])]);
  if (blocks * side === columns) return values;
  return emit('Slice', [values, integers([0]), integers([columns]), integers([1])]);
}

/** Bytes of two numbers as bytes of one. */
function emitHalves(
  codes: string,
  shape: readonly number[],
  { emit, integers, byte }: Pick<Emitter, 'emit' | 'integers' | 'byte'>,
): string {
  const last = integers([3]);
  const lower = emit('BitwiseAnd', [codes, byte(15)]);
  const upper = emit('BitShift', [codes, byte(4)], { attributes: { direction: 'RIGHT' } });
  const pairs = [lower, upper].map((half) => emit('Unsqueeze', [half, last]));
  return emit('Reshape', [emit('Concat', pairs, { attributes: { axis: 3 } }), integers(shape)]);
}

/**
 * The entry of a weight that is kept in fewer bits; null for one that is not.
 * @throws SwarmError ENGINE_WEIGHTS when it has another shape in the file
 */
export function locateQuantised(
  name: string,
  tensor: Tensor,
  weights: WeightFile | null,
): QuantisedEntry | null {
  const entry = weights?.quantised?.get(name);
  if (entry === undefined) return null;
  if (!sameShape(entry.shape, tensor.shape)) {
    throw new SwarmError(
      'ENGINE_WEIGHTS',
      `weight ${name} in ${weights?.path} is ${formatShape(entry.shape)}, the model needs ${formatShape(tensor.shape)}`,
      { name, path: weights?.path, expected: tensor.shape, found: entry.shape },
    );
  }
  return entry;
}
