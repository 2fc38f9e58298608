import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';
import { withGradient } from './custom-gradient.ts';
import { add, multiply, subtract } from './elementwise.ts';
import { concat, pad, reshape, slice, transpose } from './layout.ts';
import { causalMask } from './mask.ts';
import { softmax } from './normalization.ts';
import { matmul } from './products.ts';
import { reduceSum } from './reduce.ts';

/**
 * Number of tokens in a tile of queries. Only the scores of one tile exist at a time. A whole row has tokens
 * × tokens scores for every head, and half of them are masked. Tiles skip most of the masked scores, and the
 * scores of a tile stay in the caches of the processor.
 */
export const ATTENTION_TILE = 128;

export interface AttentionOptions {
  /** [B, T] int64. Positions count from 0 at the start of each segment. */
  readonly positions: Tensor;
  /** Maximum number of tokens that a token sees, including itself; null for no limit. */
  readonly window: number | null;
  /** Factor by which the attention scores q kᵀ are multiplied. */
  readonly scale: number;
}

/**
 * Causal grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245): softmax(scale · q kᵀ + mask) v, with the mask
 * of `causalMask`.
 *
 * Query head h reads key-value head ⌊h·KV/H⌋. K and V are never repeated. Instead, the G = H/KV query heads of a group
 * become rows of one matrix per key-value head.
 *
 * If there is more than one tile of queries, the backward pass recomputes the attention weights p of each tile instead
 * of keeping them, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135). It computes Σ dp ⊙ p as Σ dy ⊙ y, where y
 * is the output: ds = p ⊙ (dy vᵀ − Σ dy ⊙ y), dq = scale · ds k, dk = scale · dsᵀ q, dv = pᵀ dy.
 *
 * @param q [B, H, T, D]
 * @param k [B, KV, T, D]
 * @param v [B, KV, T, D]
 * @returns [B·T, H·D]
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  for (const operand of [q, k, v]) requireDType('attention', operand, 'float32');
  const [B, H, T, D] = q.shape as [number, number, number, number];
  const KV = k.shape[1]!;
  const { positions } = options;
  const keys = [B, KV, T, D].join();
  const fits = k.shape.join() === keys && v.shape.join() === keys && positions.shape.join() === `${B},${T}`;
  if (q.shape.length !== 4 || H % KV !== 0 || !fits) {
    throw shapeError(
      'attention',
      'it needs q [B, H, T, D], k and v [B, KV, T, D] and positions [B, T], with H a multiple of KV',
      q.shape,
      k.shape,
      v.shape,
      positions.shape,
    );
  }
  const mask = causalMask(positions, options.window);
  const tiles = tilesOf(T, options.window).map((tile) => forwardOf(tile, [q, k, v, mask], options.scale));
  const mixed = concat(
    tiles.map(({ output }) => output),
    2,
  );
  const result = reshape(transpose(mixed, SWAP), [B * T, H * D]);
  const y: Tensor = withGradient(result, [q, k, v], (backward) => {
    const byToken = [B, T, H, D];
    const dy = reshape(backward.gradient, byToken);
    const along = transpose(reduceSum(multiply(dy, reshape(y, byToken)), -1, true), SWAP);
    const perHead = transpose(dy, SWAP);
    // If there is only one tile, its attention weights are kept and not computed again. They take about a tenth of a
    // layer's activations (SmolLM2-135M, 4 rows of 128 tokens).
    const parts = tiles.map((tile) =>
      backwardOf(tiles.length > 1 ? recomputed(tile, [q, k, v, mask]) : tile, perHead, along, options.scale),
    );
    backward.add(1, () =>
      concat(
        parts.map(({ dq }) => dq),
        2,
      ),
    );
    backward.add(2, () =>
      addByKeys(
        parts.map(({ dk }) => dk),
        tiles,
      ),
    );
    backward.add(3, () =>
      addByKeys(
        parts.map(({ dv }) => dv),
        tiles,
      ),
    );
  });
  return y;
}

/** Permutation that swaps heads and tokens: [B, heads, T, D] ⇄ [B, T, heads, D]. */
const SWAP = [0, 2, 1, 3];

/** A tile: the queries of tokens `start` to `end` − 1. They attend only to the keys of tokens `from` to `end` − 1. */
interface Tile {
  readonly start: number;
  readonly from: number;
  readonly end: number;
}

interface TileForward extends Tile {
  /** Softmax of the scores, [B, KV, G·rows, keys]. */
  readonly weights: Tensor;
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  /** [B, H, rows, D] */
  readonly output: Tensor;
}

type Operands = readonly [q: Tensor, k: Tensor, v: Tensor, mask: Tensor];

function tilesOf(length: number, window: number | null): Tile[] {
  return Array.from({ length: Math.ceil(length / ATTENTION_TILE) }, (_, index) => {
    const start = index * ATTENTION_TILE;
    const from = window === null ? 0 : Math.max(0, start - window + 1);
    return { start, from, end: Math.min(length, start + ATTENTION_TILE) };
  });
}

function forwardOf(tile: Tile, [q, k, v, mask]: Operands, scale: number): TileForward {
  const { start, from, end } = tile;
  const [B, H, , D] = q.shape as [number, number, number, number];
  const KV = k.shape[1]!;
  const rows = end - start;
  const queries = reshape(slice(q, 2, start, end), [B, KV, (H / KV) * rows, D]);
  const keys = slice(k, 2, from, end);
  const values = slice(v, 2, from, end);
  const seen = slice(slice(mask, 3, start, end), 4, from, end);
  const scores = matmul(queries, keys, { transposeB: true, scale });
  const masked = add(reshape(scores, [B, KV, H / KV, rows, end - from]), seen);
  const weights = reshape(softmax(masked), scores.shape);
  const output = reshape(matmul(weights, values), [B, H, rows, D]);
  return { ...tile, weights, queries, keys, values, output };
}

/**
 * Returns a copy of the tile for the backward pass. New nodes compute its queries, keys, values and weights again, so
 * these tensors need not be kept after the forward pass.
 */
function recomputed(tile: TileForward, operands: Operands): TileForward {
  const repeat = recomputerFrom(operands);
  const { queries, keys, values, weights } = tile;
  return {
    ...tile,
    queries: repeat(queries),
    keys: repeat(keys),
    values: repeat(values),
    weights: repeat(weights),
  };
}

function backwardOf(
  { queries, keys, values, weights, output, start, end }: TileForward,
  dy: Tensor,
  along: Tensor,
  scale: number,
): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const ofTile = (x: Tensor, width: number) =>
    reshape(slice(x, 2, start, end), queries.shape.with(-1, width));
  const dOutput = ofTile(dy, queries.shape.at(-1)!);
  const dv = matmul(weights, dOutput, { transposeA: true });
  const dWeights = matmul(dOutput, values, { transposeB: true });
  const dScores = multiply(weights, subtract(dWeights, ofTile(along, 1)));
  return {
    dq: reshape(matmul(dScores, keys, { scale }), output.shape),
    dk: matmul(dScores, queries, { transposeA: true, scale }),
    dv,
  };
}

/** Returns a function that recomputes a tensor from `operands` with new nodes. */
function recomputerFrom(operands: readonly Tensor[]): (tensor: Tensor) => Tensor {
  const made = new Map<Tensor, Tensor>(operands.map((tensor) => [tensor, tensor]));
  const recompute = (tensor: Tensor): Tensor => {
    const { node, graph } = tensor;
    if (!made.has(tensor))
      made.set(tensor, node === null ? tensor : graph.repeat(node, node.inputs.map(recompute))[0]!);
    return made.get(tensor)!;
  };
  return recompute;
}

/** Adds the gradients of each tile's keys [B, KV, keys, D] at the keys' positions → [B, KV, T, D]. */
function addByKeys(parts: readonly Tensor[], tiles: readonly Tile[]): Tensor {
  return parts.reduce((sum, part, index) => {
    const { from, end } = tiles[index]!;
    return add(pad(sum, 2, 0, end - sum.shape[2]!), pad(part, 2, from, 0));
  });
}
