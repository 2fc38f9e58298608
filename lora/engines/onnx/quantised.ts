import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { OperationAttributes } from '../../graph/operations.ts';
import type { QuantisedEntry } from '../weights.ts';
import { type Emitter, MICROSOFT } from './emitter.ts';

/** ONNX value names of a copy of a weight. */
export interface BlockNames {
  readonly codes: string;
  readonly scales: string;
}

/**
 * MatMulNBits computing in float32. Level 4 rounds blocks of the activations to 8 bits, and with 4-bit weights was no
 * faster and took more memory (decision 012).
 */
const FLOAT32_ACCURACY = 1;

type Gemm = GraphNode<'gemm'>;

/** Whether the node is x·W or x·Wᵀ with `weight` as its second operand and nowhere else. */
export function isQuantisedProduct(node: GraphNode, isQuantised: (operand: Tensor) => boolean): node is Gemm {
  if (node.operation !== 'gemm') return false;
  const { transposeA } = node.attributes as OperationAttributes['gemm'];
  const [x, weight, addend] = node.inputs;
  return !transposeA && isQuantised(weight!) && !isQuantised(x!) && !(addend && isQuantised(addend));
}

/** At 4 bits: numbers in a block, and blocks in a row of the plain copy. */
function blocksOf({ plain }: QuantisedEntry): { side: number; blocks: number } {
  const [, blocks, bytes] = plain.codes.shape as readonly [number, number, number];
  return { side: 2 * bytes, blocks };
}

/** Which copy of a weight. */
export type Direction = 'plain' | 'transposed';

/** The copy that the kernel wants: at 4 bits blocks along the axis that is summed over, at 8 bits that axis first. */
export function directionOf({ attributes: { transposeB } }: Gemm, { bits }: QuantisedEntry): Direction {
  return transposeB === (bits === 4) ? 'plain' : 'transposed';
}

/** x·W or x·Wᵀ at 4 bits: scales lie along the axis that is summed over in both directions. */
export function lowerTiledProduct(
  node: Gemm,
  inputs: readonly string[],
  outputs: readonly string[],
  { entry, names }: { entry: QuantisedEntry; names: BlockNames },
  emitter: Emitter,
): void {
  const [n, k] = node.attributes.transposeB ? entry.shape : [entry.shape[1], entry.shape[0]];
  const attributes = {
    K: k,
    N: n,
    bits: 4,
    block_size: blocksOf(entry).side,
    accuracy_level: FLOAT32_ACCURACY,
  };
  const operands = [inputs[0]!, names.codes, names.scales];
  finishProduct(node, inputs, outputs, emitter, (options) =>
    emitter.emit('MatMulNBits', operands, { ...options, attributes, domain: MICROSOFT }),
  );
}

/** Rows of an operand divided by their largest element, and these. */
export interface RoundedRows {
  readonly rows: string;
  readonly largest: string;
}

/** Where a row is zero there is nothing to divide by. */
const SMALLEST_ROW = 1e-30;

/**
 * x·W or x·Wᵀ at 8 bits, of whole numbers. The kernel rounds its first operand with one scale for all of it: rows are
 * brought to the same size before. W's scales belong to its rows: in x·Wᵀ they are those of the result's columns, which
 * the kernel multiplies with; in x·W those of the columns of x, which are multiplied first.
 */
export function lowerRowScaledProduct(
  node: Gemm,
  inputs: readonly string[],
  outputs: readonly string[],
  { names, roundedRows }: { names: BlockNames; roundedRows: Map<string, RoundedRows> },
  emitter: Emitter,
): void {
  const { emit, integers, scalar } = emitter;
  const scalesOfRows = emit('Reshape', [names.scales, integers([-1])]);
  const { transposeB } = node.attributes;
  const x = transposeB ? inputs[0]! : emit('Mul', [inputs[0]!, scalesOfRows]);
  let rounded = roundedRows.get(x);
  if (rounded === undefined) {
    const largest = emit('Max', [emit('ReduceMax', [emit('Abs', [x]), integers([1])]), scalar(SMALLEST_ROW)]);
    rounded = { rows: emit('Div', [x, largest]), largest };
    // Modules that read the same values share this.
    roundedRows.set(x, rounded);
  }
  const { rows, largest } = rounded;
  const operands = [rows, names.codes, transposeB ? scalesOfRows : scalar(1)];
  const product = emit('DynamicQuantizeMatMul', operands, { domain: MICROSOFT });
  finishProduct(node, inputs, outputs, emitter, (options) => emit('Mul', [product, largest], options));
}

/** Operator by operator: WebGPU has no kernel for Sum. */
export function emitSum(
  terms: readonly string[],
  { emit }: Emitter,
  options: { outputs?: readonly string[] },
): string {
  if (terms.length === 1) return emit('Identity', terms, options);
  const total = terms.slice(0, -1).reduce((sum, term) => emit('Add', [sum, term]));
  return emit('Add', [total, terms.at(-1)!], options);
}

/** alpha · product + beta · addend, with `emitProduct` emitting the product. */
export function finishProduct(
  { attributes: { alpha, beta } }: Gemm,
  [, , addend]: readonly string[],
  outputs: readonly string[],
  { emit, scalar }: Emitter,
  emitProduct: (options: { outputs?: readonly string[] }) => string,
): void {
  if (addend === undefined) {
    if (alpha === 1) emitProduct({ outputs });
    else emit('Mul', [emitProduct({}), scalar(alpha)], { outputs });
    return;
  }
  const product = emitProduct({});
  const scaled = alpha === 1 ? product : emit('Mul', [product, scalar(alpha)]);
  emit('Add', [scaled, beta === 1 ? addend : emit('Mul', [addend, scalar(beta)])], { outputs });
}

/**
 * The weight as the float32 matrix that its numbers stand for: where an operation is no product with it, or products
 * shall be exact, and on GPUs for all products. Both operators have kernels there as well; DequantizeLinear takes blocks of
 * 4 bits only from opset 21 on, which a lookup of all rows does too. `names` must be no constants to onnxruntime, which would
 * compute the matrix once and keep it.
 */
export function emitDense(
  entry: QuantisedEntry,
  { codes, scales }: BlockNames,
  { emit, integers }: Emitter,
): string {
  const { bits, shape } = entry;
  const [rows, columns] = shape;
  if (bits === 8) return emit('DequantizeLinear', [codes, scales], { attributes: { axis: 0 } });
  const { side, blocks } = blocksOf(entry);
  const every = integers(Array.from({ length: rows }, (_, row) => row));
  const attributes = { bits, block_size: side, gather_axis: 0, quantize_axis: 1 };
  const values = emit('GatherBlockQuantized', [codes, every, scales], { attributes, domain: MICROSOFT });
  if (blocks * side === columns) return values;
  return emit('Slice', [values, integers([0]), integers([columns]), integers([1])]);
}
