import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { OperationAttributes } from '../../graph/operations.ts';
import type { QuantisedEntry } from '../weights.ts';
import { type Emitter, MICROSOFT } from './emitter.ts';

/** Names of the ONNX values with the codes and the scales of a weight or of its transpose. */
export interface BlockNames {
  readonly codes: string;
  readonly scales: string;
}

/**
 * Accuracy level at which MatMulNBits computes in float32. Level 4 rounds blocks of activations to 8 bits.
 * With 4-bit weights, level 4 was no faster than float32 and took more memory (decision 012).
 */
const FLOAT32_ACCURACY = 1;

type Gemm = GraphNode<'gemm'>;

/** Returns whether the node is x·W or x·Wᵀ with a quantised W, and no other quantised operand. */
export function isQuantisedProduct(node: GraphNode, isQuantised: (operand: Tensor) => boolean): node is Gemm {
  if (node.operation !== 'gemm') return false;
  const { transposeA } = node.attributes as OperationAttributes['gemm'];
  const [x, weight, addend] = node.inputs;
  return !transposeA && isQuantised(weight!) && !isQuantised(x!) && !(addend && isQuantised(addend));
}

/** Returns the layout of the plain copy at 4 bits. `side`: values in a block; `blocks`: blocks in a row. */
function blocksOf({ plain }: QuantisedEntry): { side: number; blocks: number } {
  const [, blocks, bytes] = plain.codes.shape as readonly [number, number, number];
  return { side: 2 * bytes, blocks };
}

/** Names a copy of a weight: W itself or Wᵀ. */
export type Direction = 'plain' | 'transposed';

/**
 * Returns the copy of the weight that the kernel for this product needs. The kernel for 4 bits needs blocks along the
 * summed axis. The kernel for 8 bits needs the summed axis as the first axis.
 */
export function directionOf({ attributes: { transposeB } }: Gemm, { bits }: QuantisedEntry): Direction {
  return transposeB === (bits === 4) ? 'plain' : 'transposed';
}

/** Emits x·W or x·Wᵀ at 4 bits. In both cases, the blocks that share a scale lie along the summed axis. */
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

/** Names of the ONNX values that hold an operand with normalised rows. */
export interface RoundedRows {
  /** The rows, each divided by its largest magnitude. */
  readonly rows: string;
  /** The largest magnitude of each row. */
  readonly largest: string;
}

/**
 * Smallest number by which a row is divided. Without this minimum, a row of zeros would be divided by its
 * largest magnitude, which is 0.
 */
const SMALLEST_ROW = 1e-30;

/**
 * Emits x·W or x·Wᵀ at 8 bits, computed in integers. The kernel rounds its whole first operand with one scale, so rows
 * are normalised first. W has one scale per row. In x·Wᵀ a row of W gives a column of the result, and the kernel
 * multiplies the column by the scale. In x·W a row of W belongs to a column of x, and this column is multiplied by the
 * scale first.
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
    // Modules that read the same values share the result.
    roundedRows.set(x, rounded);
  }
  const { rows, largest } = rounded;
  const operands = [rows, names.codes, transposeB ? scalesOfRows : scalar(1)];
  const product = emit('DynamicQuantizeMatMul', operands, { domain: MICROSOFT });
  finishProduct(node, inputs, outputs, emitter, (options) => emit('Mul', [product, largest], options));
}

/** Emits a sum as a chain of Add, because WebGPU has no kernel for Sum. */
export function emitSum(
  terms: readonly string[],
  { emit }: Emitter,
  options: { outputs?: readonly string[] },
): string {
  if (terms.length === 1) return emit('Identity', terms, options);
  const total = terms.slice(0, -1).reduce((sum, term) => emit('Add', [sum, term]));
  return emit('Add', [total, terms.at(-1)!], options);
}

/** Emits alpha · product + beta · addend, where `emitProduct` emits the product. */
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
 * Emits a quantised weight as a float32 matrix. It serves operations other than matrix products, products without
 * rounded activations, and all products on GPUs. At 8 bits it emits DequantizeLinear. At 4 bits it emits
 * GatherBlockQuantized for all rows, because DequantizeLinear takes blocks only from opset 21 on. GPUs have kernels for
 * both. The blocks must not be constants, because onnxruntime would compute the matrix once and keep it.
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
