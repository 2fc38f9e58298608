import type * as core from '@tensorflow/tfjs-core';
import type { GraphNode } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import { GELU_CUBIC, GELU_SLOPE } from '../../graph/ops/elementwise.ts';
import { MASKED } from '../../graph/ops/mask.ts';
import { elementCount } from '../../graph/shapes.ts';
import { engineError } from '../errors.ts';
import { uniformValues } from './random.ts';

/** The functions of `@tensorflow/tfjs-core`, which the packages for Node.js re-export. */
export type TensorFlow = typeof core;
/** A tensor with data, on the current backend. */
export type Value = core.Tensor;

/**
 * Computes one operation and returns its results in the order of the node's outputs: new tensors, never an operand
 * itself. Runs inside tf.tidy, which disposes of intermediate tensors.
 */
export type Lowering<K extends Operation> = (
  tf: TensorFlow,
  inputs: readonly Value[],
  node: GraphNode<K>,
) => Value[];

/** Computes each operation of the graph with functions of tfjs-core. int64 values are int32 here (see ids.ts). */
export const LOWERINGS: { readonly [K in Operation]: Lowering<K> } = {
  add: (tf, [a, b]) => [tf.add(a!, b!)],
  subtract: (tf, [a, b]) => [tf.sub(a!, b!)],
  multiply: (tf, [a, b]) => [tf.mul(a!, b!)],
  divide: (tf, [a, b]) => [tf.div(a!, b!)],
  negate: (tf, [x]) => [tf.neg(x!)],
  exp: (tf, [x]) => [tf.exp(x!)],
  log: (tf, [x]) => [tf.log(x!)],
  sqrt: (tf, [x]) => [tf.sqrt(x!)],
  sigmoid: (tf, [x]) => [tf.sigmoid(x!)],
  silu(tf, [x]) {
    const sigma = tf.sigmoid(x!);
    return [tf.mul(x!, sigma), sigma];
  },
  geluTanh(tf, [x]) {
    const slope = tf.add(tf.mul(tf.mul(x!, x!), GELU_SLOPE * GELU_CUBIC), GELU_SLOPE);
    const sigma = tf.sigmoid(tf.mul(x!, slope));
    return [tf.mul(x!, sigma), sigma];
  },
  broadcast: (tf, [x], { attributes }) => [tf.broadcastTo(x!, [...attributes.shape])],
  sum: (tf, [x], { attributes }) => [tf.sum(x!, [...attributes.axes], attributes.keepDims)],
  reshape: (tf, [x], { attributes }) => [tf.reshape(x!, [...attributes.shape])],
  transpose: (tf, [x], { attributes }) => [tf.transpose(x!, [...attributes.permutation])],
  slice(tf, [x], { attributes: { axis, start, end } }) {
    const begin = x!.shape.map((_, index) => (index === axis ? start : 0));
    return [tf.slice(x!, begin, x!.shape.with(axis, end - start))];
  },
  pad(tf, [x], { attributes: { axis, before, after } }) {
    const around = x!.shape.map((_, index): [number, number] => (index === axis ? [before, after] : [0, 0]));
    return [tf.pad(x!, around)];
  },
  concat: (tf, inputs, { attributes }) => [tf.concat([...inputs], attributes.axis)],
  gemm(tf, [a, b, c], { attributes }) {
    const product = scaledProduct(tf, a!, b!, attributes);
    if (c === undefined) return [product];
    return [tf.add(product, attributes.beta === 1 ? c : tf.mul(c, attributes.beta))];
  },
  batchedMatmul: (tf, [a, b], { attributes }) => [scaledProduct(tf, a!, b!, attributes)],
  softmax: (tf, [x]) => [tf.softmax(x!)],
  logSumExp: (tf, [x]) => [tf.logSumExp(x!, -1, true)],
  rmsNorm(tf, [x, weight], { attributes: { epsilon } }) {
    const r = tf.rsqrt(tf.add(tf.mean(tf.mul(x!, x!), -1, true), epsilon));
    return [tf.mul(tf.mul(x!, r), weight!), r];
  },
  layerNorm(tf, [x, weight, bias], { attributes: { epsilon } }) {
    const mean = tf.mean(x!, -1, true);
    const centred = tf.sub(x!, mean);
    const r = tf.rsqrt(tf.add(tf.mean(tf.mul(centred, centred), -1, true), epsilon));
    return [tf.add(tf.mul(tf.mul(centred, r), weight!), bias!), mean, r];
  },
  causalMask(tf, [positions, index], { attributes: { window }, outputs: [mask] }) {
    // `reach` is the number of earlier tokens that a token sees, and `first` the position of the first of them.
    const reach = window === null ? positions! : tf.minimum(positions!, tf.scalar(window - 1, 'int32'));
    const first = tf.sub(index!, reach);
    const fromFirst = tf.greaterEqual(index!, tf.expandDims(first, -1));
    const seen = tf.logicalAnd(fromFirst, tf.lessEqual(index!, tf.expandDims(index!, -1)));
    // (seen − 1) · −MASKED is +0 for a token that is seen. −0 would differ from onnxruntime's result.
    const hidden = tf.mul(tf.sub(tf.cast(seen, 'float32'), 1), -MASKED);
    return [tf.reshape(hidden, [...mask!.shape])];
  },
  rotary(tf, [x, positions, cosines, sines]) {
    const half = x!.shape.at(-1)! / 2;
    // [B, T, D/2] → [B, 1, T, D/2]: the same for every head.
    const [cos, sin] = [cosines!, sines!].map((table) => tf.expandDims(rowsOf(tf, table, positions!), 1));
    const [left, right] = tf.split(x!, [half, half], -1);
    const turnedLeft = tf.sub(tf.mul(left!, cos!), tf.mul(right!, sin!));
    const turnedRight = tf.add(tf.mul(right!, cos!), tf.mul(left!, sin!));
    return [tf.concat([turnedLeft, turnedRight], -1)];
  },
  cachedAttention() {
    throw engineError('ENGINE_COMPILE', 'tfjs cannot update a key-value cache', { engine: 'tfjs' });
  },
  zeros: (tf, _inputs, { attributes }) => [tf.fill([...attributes.shape], 0)],
  gatherRows: (tf, [table, ids]) => [rowsOf(tf, table!, ids!)],
  scatterAddRows(tf, [base, ids, rows]) {
    const [count, width] = base!.shape as [number, number];
    return [tf.add(base!, tf.scatterND(tf.expandDims(ids!, -1), rows!, [count, width]))];
  },
  // The largest probability is e⁰/Σe^(z − max). Its logarithm gives −log Σe^(z − max) without a second pass of
  // exponentials and without underflow.
  softmaxCrossEntropy(tf, [logits, labels]) {
    const probabilities = tf.softmax(logits!);
    const picked = tf.gatherND(logits!, coordinates(tf, clamped(tf, labels!)));
    const total = tf.sub(tf.sub(tf.max(logits!, -1), picked), tf.log(tf.max(probabilities, -1)));
    return [tf.mul(total, supervised(tf, labels!)), probabilities];
  },
  crossEntropyGradient(tf, [probabilities, labels, weights]) {
    const spread = tf.mul(probabilities!, weights!);
    const at = coordinates(tf, labels!);
    const less = tf.sub(tf.gatherND(spread, at), tf.reshape(weights!, [-1]));
    return [tf.tensorScatterUpdate(spread, at, less)];
  },
  supervised: (tf, [labels]) => [supervised(tf, labels!)],
  clampLabels: (tf, [labels]) => [clamped(tf, labels!)],
  uniform(tf, [seed], { attributes: { shape, stream } }) {
    return [tf.tensor(uniformValues(shape, seed!.dataSync()[0]!, stream), [...shape], 'float32')];
  },
  keepMask(tf, [random], { attributes: { rate } }) {
    return [tf.mul(tf.cast(tf.greaterEqual(random!, rate), 'float32'), 1 / (1 - rate))];
  },
  customGradient: (tf, [value]) => [tf.clone(value!)],
};

interface ScaledProduct {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly alpha: number;
}

/**
 * Computes alpha · op(a) · op(b). To save time, multiplies the smallest of the three matrices by alpha: a, b or the
 * product. In a LoRA branch, the smallest one is a narrow operand.
 */
function scaledProduct(tf: TensorFlow, a: Value, b: Value, attributes: ScaledProduct): Value {
  const { transposeA, transposeB, alpha } = attributes;
  const product = (left: Value, right: Value) => tf.matMul(left, right, transposeA, transposeB);
  if (alpha === 1) return product(a, b);
  const rows = a.shape.at(transposeA ? -1 : -2)!;
  const columns = b.shape.at(transposeB ? -2 : -1)!;
  const resultSize = elementCount(a.shape.slice(0, -2)) * rows * columns;
  if (resultSize <= Math.min(a.size, b.size)) return tf.mul(product(a, b), alpha);
  return a.size <= b.size ? product(tf.mul(a, alpha), b) : product(a, tf.mul(b, alpha));
}

/**
 * Looks up rows of a table [V, C] by ids of any shape [..] → [.., C]. Avoids tf.gather, which in the packages
 * for Node.js fetches the ids from the device at every call to check them. That check is not needed, because
 * ids.ts has checked the ids before they were sent to the device.
 */
function rowsOf(tf: TensorFlow, table: Value, ids: Value): Value {
  return tf.gatherND(table, tf.expandDims(ids, -1));
}

/** Returns the coordinates (n, columns[n]) for every row n: [N] → [N, 2]. */
function coordinates(tf: TensorFlow, columns: Value): Value {
  return tf.stack([tf.range(0, columns.size, 1, 'int32'), columns], 1);
}

function clamped(tf: TensorFlow, labels: Value): Value {
  return tf.maximum(labels, tf.scalar(0, 'int32'));
}

/** Returns 1 for labels ≥ 0, else 0, in float32. */
function supervised(tf: TensorFlow, labels: Value): Value {
  return tf.cast(tf.greaterEqual(labels, tf.scalar(0, 'int32')), 'float32');
}
