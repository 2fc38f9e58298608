import type { Tensor } from '../../graph/graph.ts';
import { reshape, transpose } from '../../graph/ops.ts';

/** Splits attention heads: [B·T, heads·D] → [B, heads, T, D], for B rows. */
export function splitHeads(x: Tensor, batch: number, heads: number): Tensor {
  const [tokens, width] = x.shape as [number, number];
  return transpose(reshape(x, [batch, tokens / batch, heads, width / heads]), [0, 2, 1, 3]);
}
