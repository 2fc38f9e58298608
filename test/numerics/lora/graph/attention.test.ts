import { describe, expect, test } from 'vitest';
import { graphCost } from '../../../../lora/graph/cost.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { elementCount } from '../../../../lora/graph/shapes.ts';
import { disagreement } from '../../../utils/models/executors.ts';
import { evaluate, numbers } from '../../../utils/models/graphs.ts';
import { ints } from '../../../utils/models/operation-cases.ts';
import { withCode } from '../../../utils/source/codes.ts';

const [B, H, KV, D] = [2, 4, 2, 3];
const SCALE = 0.7;

/** Attention that computes all scores at once. Its gradient follows from the gradient rules of the operations in it. */
function plainAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { positions, window, scale }: ops.AttentionOptions,
): Tensor {
  const T = q.shape[2]!;
  const groups = [B, KV, (H / KV) * T];
  const scores = ops.matmul(ops.reshape(q, [...groups, D]), k, { transposeB: true, scale });
  const masked = ops.add(ops.reshape(scores, [B, KV, H / KV, T, T]), ops.causalMask(positions, window));
  const mixed = ops.matmul(ops.reshape(ops.softmax(masked), [...groups, T]), v);
  return ops.reshape(ops.transpose(ops.reshape(mixed, [B, H, T, D]), [0, 2, 1, 3]), [B * T, H * D]);
}

/** Returns a loss of attention over two rows of `length` tokens: the first row has one segment, the second three. */
function build(graph: Graph, attend: typeof ops.attention, length: number, window: number | null) {
  const heads = [H, KV, KV].map((count, i) => graph.input('qkv'[i]!, [B, count, length, D]));
  const [q, k, v] = heads as [Tensor, Tensor, Tensor];
  const third = Math.ceil(length / 3);
  const places = Array.from({ length: B * length }, (_, i) => (i < length ? i : (i - length) % third));
  const positions = graph.constant([B, length], ints(places));
  const y = attend(q, k, v, { positions, window, scale: SCALE });
  const loss = ops.reduceSum(ops.multiply(y, graph.constant(y.shape, numbers(elementCount(y.shape), 3))));
  const [dq, dk, dv] = gradients(loss, [q, k, v]);
  return { y, dq: dq!, dk: dk!, dv: dv! };
}

describe('attention in tiles', () => {
  test.each([
    ['one tile', 40, null],
    ['several, the last one short', 2 * ops.ATTENTION_TILE + 44, null],
    ['a window within a tile', ops.ATTENTION_TILE + 60, 9],
    ['a window over tiles', 3 * ops.ATTENTION_TILE, ops.ATTENTION_TILE + 30],
  ])('%s: values and gradients of all scores at once', async (_, length, window) => {
    const feeds = {
      q: numbers(B * H * length * D, 1),
      k: numbers(B * KV * length * D, 2),
      v: numbers(B * KV * length * D, 4),
    };
    const plain = await evaluate((graph) => build(graph, plainAttention, length, window), feeds);
    const tiled = await evaluate((graph) => build(graph, ops.attention, length, window), feeds);
    expect(disagreement(tiled, plain)).toBeLessThan(1e-5);
  });

  test('never holds all scores of a row at once, and computes few masked scores', () => {
    const length = 8 * ops.ATTENTION_TILE;
    const cost = (attend: typeof ops.attention) => {
      const graph = new Graph();
      for (const [name, tensor] of Object.entries(build(graph, attend, length, null)))
        graph.output(name, tensor);
      return graphCost(graph);
    };
    const plain = cost(plainAttention);
    const tiled = cost(ops.attention);
    const scores = 4 * B * H * length * length;
    expect(plain.activationBytes).toBeGreaterThan(2 * scores);
    expect(tiled.activationBytes).toBeLessThan(0.6 * scores);
    // Tiled attention computes seven products instead of six. It skips masked tiles, so it computes 36 of 64 pairs of tiles.
    expect(tiled.flops / plain.flops).toBeCloseTo((7 / 6) * (36 / 64), 5);
  });

  test('computes the weights of a single tile once, and recomputes those of several tiles for the gradients', () => {
    const flops = (attend: typeof ops.attention, length: number) => {
      const graph = new Graph();
      for (const [name, tensor] of Object.entries(build(graph, attend, length, null)))
        graph.output(name, tensor);
      return graphCost(graph).flops;
    };
    const [one, two] = [ops.ATTENTION_TILE, 2 * ops.ATTENTION_TILE];
    expect(flops(ops.attention, one)).toBe(flops(plainAttention, one));
    expect(flops(ops.attention, two) / flops(plainAttention, two)).toBeCloseTo((7 / 6) * (3 / 4), 5);
  });

  test.each<[string, (graph: Graph, positions: Tensor) => Tensor]>([
    [
      'keys of the wrong length',
      (graph, positions) => {
        const [q, k] = [graph.input('q', [1, 2, 4, 2]), graph.input('k', [1, 2, 5, 2])];
        return ops.attention(q, k, k, { positions, window: null, scale: 1 });
      },
    ],
    [
      'a number of heads that is not a multiple of the key-value heads',
      (graph, positions) => {
        const [q, k] = [graph.input('q', [1, 3, 4, 2]), graph.input('k', [1, 2, 4, 2])];
        return ops.attention(q, k, k, { positions, window: null, scale: 1 });
      },
    ],
    [
      'positions for the wrong number of rows',
      (graph, positions) => {
        const q = graph.input('q', [2, 2, 4, 2]);
        return ops.attention(q, q, q, { positions, window: null, scale: 1 });
      },
    ],
  ])('%s', (_, attend) => {
    const graph = new Graph();
    const positions = graph.input('positions', [1, 4], 'int64');
    expect(() => attend(graph, positions)).toThrow(withCode('GRAPH_SHAPE'));
  });
});
