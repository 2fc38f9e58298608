import type { Tensor } from '../../graph/graph.ts';
import { add, matmul, reshape, softmax, transpose } from '../../graph/ops.ts';

/** [B·T, heads·D] → [B, heads, T, D] for B rows. */
export function splitHeads(x: Tensor, batch: number, heads: number): Tensor {
  const [tokens, width] = x.shape as [number, number];
  return transpose(reshape(x, [batch, tokens / batch, heads, width / heads]), [0, 2, 1, 3]);
}

/**
 * Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245): softmax(scale · q kᵀ + mask) v.
 *
 * Query head h reads key-value head ⌊h·KV/H⌋. K and V are never repeated: the G = H/KV query heads of a
 * group become G·T rows of one matrix per key-value head.
 *
 * @param q [B, H, T, D]
 * @param k [B, KV, T, D]
 * @param v [B, KV, T, D]
 * @param mask [B, 1, 1, T, T], 0 where a token (row) sees another (column)
 * @returns [B·T, H·D]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: number): Tensor {
  const [B, H, T, D] = q.shape as [number, number, number, number];
  const KV = k.shape[1]!;
  const G = H / KV;
  const queries = reshape(q, [B, KV, G * T, D]);
  const scores = matmul(queries, k, { transposeB: true, scale });
  const masked = add(reshape(scores, [B, KV, G, T, T]), mask);
  const weights = reshape(softmax(masked), [B, KV, G * T, T]);
  const mixed = reshape(matmul(weights, v), [B, H, T, D]);
  return reshape(transpose(mixed, [0, 2, 1, 3]), [B * T, H * D]);
}
