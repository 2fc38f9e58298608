import type { Tensor } from '../graph/graph.ts';
import { add, matmul, reshape, rotaryEmbedding, softmax, transpose } from '../graph/ops.ts';

export interface AttentionOptions {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

/** Inputs of attention besides the projections: rotary tables [P, D/2], positions [B, T], mask [B, 1, 1, T, T]. */
export interface AttentionContext {
  readonly positions: Tensor;
  readonly mask: Tensor;
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/**
 * Grouped-query attention: softmax(rope(q) rope(k)ᵀ / √D + mask) v.
 *
 * Query head h reads key-value head ⌊h·KV/H⌋. K and V are never repeated: the G = H/KV query heads of a
 * group become G·T rows of one matrix per key-value head.
 *
 * @param q [B·T, H·D]
 * @param k [B·T, KV·D]
 * @param v [B·T, KV·D]
 * @returns [B·T, H·D]
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
  context: AttentionContext,
): Tensor {
  const { batch: B, length: T, heads: H, keyValueHeads: KV, headDim: D } = options;
  const G = H / KV;
  const split = (x: Tensor, heads: number) => transpose(reshape(x, [B, T, heads, D]), [0, 2, 1, 3]);
  const rotate = (x: Tensor) => rotaryEmbedding(x, context.positions, context.cos, context.sin);

  const queries = reshape(rotate(split(q, H)), [B, KV, G * T, D]);
  const keys = rotate(split(k, KV));
  const scores = matmul(queries, keys, { transposeB: true, scale: 1 / Math.sqrt(D) });
  const masked = add(reshape(scores, [B, KV, G, T, T]), context.mask);
  const weights = reshape(softmax(masked), [B, KV, G * T, T]);
  const mixed = reshape(matmul(weights, split(v, KV)), [B, H, T, D]);
  return reshape(transpose(mixed, [0, 2, 1, 3]), [B * T, H * D]);
}
