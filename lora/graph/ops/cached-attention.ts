import { DYNAMIC } from '../dynamic.ts';
import { requireDType, type Tensor } from '../graph.ts';
import type { OperationAttributes } from '../operations.ts';
import { shapeError } from '../shapes.ts';
import { pad, reshape, slice, transpose } from './layout.ts';

/** The keys and values of a layer's earlier tokens. */
export interface LayerCache {
  /** Keys: [rows, KV, capacity, D′], where D′ is `cachedHeadSize(D)`. */
  readonly keys: Tensor;
  /** Values, in the same shape as `keys`. */
  readonly values: Tensor;
  /** Number of tokens of each row, including the new tokens of this run: [rows] int64. */
  readonly lengths: Tensor;
}

export interface CachedAttentionOptions {
  /** Maximum number of tokens that a token attends to, including itself; null if there is no limit. */
  readonly window: number | null;
  /** Factor by which the attention scores are multiplied. */
  readonly scale: number;
}

/** Output of `cachedAttention`: its result, and the cache with the keys and values of this run added. */
export interface CachedAttention {
  /** [tokens, H·D] */
  readonly output: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Returns the size of a head in the cache. onnxruntime's kernel needs a multiple of 8, so heads of other sizes are padded
 * with zeros, which changes no result.
 */
export function cachedHeadSize(headSize: number): number {
  return Math.ceil(headSize / 8) * 8;
}

/** onnxruntime's kernel can apply rotary embeddings itself only if half the size of a head is a multiple of this number. */
const ROTATED_PAIRS = 8;

/**
 * Causal grouped-query attention to the new tokens of this run and to the tokens in a cache. All rows have the same
 * number of new tokens. The new tokens of a row follow its cached tokens. The new tokens of a row are contiguous, so
 * token t of row b has index b·(tokens/rows) + t. If a row has several new tokens and also cached tokens, there must be
 * only one row.
 *
 * The cache is meant to be updated in place: the engine gets the same memory for `cache.keys` and the returned `keys`.
 *
 * If q and k come from `rotaryEmbedding`, the kernel rotates them, and the nodes of the rotation are left out.
 *
 * @param q [1, H, tokens, D]
 * @param k [1, KV, tokens, D]
 * @param v [1, KV, tokens, D]
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function cachedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  cache: LayerCache,
  { window, scale }: CachedAttentionOptions,
): CachedAttention {
  for (const operand of [q, k, v, cache.keys, cache.values])
    requireDType('cachedAttention', operand, 'float32');
  requireDType('cachedAttention', cache.lengths, 'int64');
  const [B, H, T, D] = q.shape as [number, number, number, number];
  const KV = k.shape[1]!;
  const size = cachedHeadSize(D);
  const expected = [DYNAMIC.rows, KV, DYNAMIC.capacity, size].join();
  const keys = [1, KV, T, D].join();
  const fits = k.shape.join() === keys && v.shape.join() === keys && cache.keys.shape.join() === expected;
  if (B !== 1 || H % KV !== 0 || !fits || cache.values.shape.join() !== expected) {
    throw shapeError(
      'cachedAttention',
      'it needs q [1, H, T, D], k and v [1, KV, T, D] and a cache [rows, KV, capacity, D], with H a multiple of KV',
      q.shape,
      k.shape,
      v.shape,
      cache.keys.shape,
    );
  }
  const rotation = size === D ? sharedRotation(q, k) : null;
  const [queries, newKeys] = rotation === null ? [q, k] : [q.node!.inputs[0]!, k.node!.inputs[0]!];
  const operands = [queries, newKeys, v].map((heads) => byToken(heads, size));
  const { graph } = q;
  const joint = jointOperand(operands);
  const [output, presentKeys, presentValues] = graph.apply(
    'cachedAttention',
    [...(joint ? [joint] : operands), cache.keys, cache.values, cache.lengths, ...(rotation ?? [])],
    { heads: H, keyValueHeads: KV, window, scale, isJoint: joint !== null },
    [{ shape: [T, H * size] }, { shape: cache.keys.shape }, { shape: cache.values.shape }],
    null,
  ) as [Tensor, Tensor, Tensor];
  const cut = size === D ? output : reshape(slice(reshape(output, [T, H, size]), 2, 0, D), [T, H * D]);
  return { output: cut, keys: presentKeys, values: presentValues };
}

/** Returns the tables [cos, sin] if q and k are rotated by the same tables in a way that the kernel supports. */
function sharedRotation(q: Tensor, k: Tensor): readonly [cos: Tensor, sin: Tensor] | null {
  if (q.node?.operation !== 'rotary' || k.node?.operation !== 'rotary') return null;
  const [, ...ofQueries] = q.node.inputs;
  const [, ...ofKeys] = k.node.inputs;
  const [, cos, sin] = ofQueries as [Tensor, Tensor, Tensor];
  if (!ofQueries.every((tensor, i) => tensor === ofKeys[i])) return null;
  return cos.shape[1]! % ROTATED_PAIRS === 0 ? [cos, sin] : null;
}

/** Returns the matrix whose consecutive columns are the queries, keys and values; null if there is no such matrix. */
function jointOperand(operands: readonly Tensor[]): Tensor | null {
  let source: Tensor | null = null;
  let column = 0;
  for (const { node } of operands) {
    if (node?.operation !== 'slice') return null;
    const { axis, start, end } = node.attributes as OperationAttributes['slice'];
    const [from] = node.inputs as [Tensor];
    if (axis !== 1 || start !== column || (source !== null && source !== from)) return null;
    [source, column] = [from, end];
  }
  return source !== null && column === source.shape[1] ? source : null;
}

/**
 * Puts the heads of each token into one row, and pads each head with zeros to `size` values:
 * [1, heads, T, D] → [T, heads·size].
 */
function byToken(heads: Tensor, size: number): Tensor {
  const [, count, T, D] = heads.shape as [number, number, number, number];
  if (D === size && isSplit(heads)) return reshape(heads.node!.inputs[0]!, [T, count * D]);
  return reshape(transpose(pad(heads, 3, 0, size - D), [0, 2, 1, 3]), [T, count * size]);
}

/** Returns whether a tensor is the result of swapping the axes of tokens and heads. */
function isSplit({ node }: Tensor): boolean {
  if (node?.operation !== 'transpose') return false;
  return (node.attributes as { permutation: readonly number[] }).permutation.join() === '0,2,1,3';
}
