import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { graphCost } from '../../../../lora/graph/cost.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { evaluate, gradientError, numbers } from '../../../utils/models/graphs.ts';
import { type Build, differentiable, ints, OPERATION_CASES } from '../../../utils/models/operation-cases.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** Error of central differences in float32. */
const TOLERANCE = 5e-3;

const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

describe('the gradient rule of every operation agrees with central differences', () => {
  for (const [name, cases] of Object.entries(OPERATION_CASES)) {
    test(name, async () => {
      await fc.assert(
        fc.asyncProperty(cases, seed, async (example, weights) => {
          expect(await gradientError(example, weights)).toBeLessThan(TOLERANCE);
        }),
        { numRuns: 25 },
      );
    });
  }
});

describe('gradients of whole graphs', () => {
  test('a tensor with several consumers gets the sum of their gradients', async () => {
    const build: Build = (_, { x, w }) => {
      const h = ops.linear(x!, w!);
      const twice = ops.add(ops.multiply(h, h), ops.subtract(x!, h));
      return ops.add(ops.linear(twice, w!), ops.multiply(twice, x!));
    };
    expect(await gradientError(differentiable({ x: [3, 4], w: [4, 4] }, 7, build), 3)).toBeLessThan(
      TOLERANCE,
    );
  });

  test('tied embeddings: gather and output head add up', async () => {
    const build: Build = (graph, { table, w }) => {
      const ids = graph.constant([4], ints([1, 5, 1, 0]));
      const x = ops.gatherRows(table!, ids);
      const hidden = ops.add(x, ops.silu(ops.linear(x, w!)));
      return ops.crossEntropy(ops.linear(hidden, table!), graph.constant([4], ints([2, -100, 5, 1])));
    };
    const example = differentiable({ table: [6, 3], w: [3, 3] }, 11, build);
    expect(await gradientError(example, 5)).toBeLessThan(TOLERANCE);
  });

  test('grouped-query attention with a mask', async () => {
    const [B, KV, G, T, D] = [2, 2, 3, 4, 4];
    const build: Build = (graph, { q, k, v }) => {
      const mask = Float32Array.from({ length: T * T }, (_, i) => (i % T > Math.floor(i / T) ? -1e9 : 0));
      const scores = ops.matmul(q!, k!, { transposeB: true, scale: 0.5 });
      const masked = ops.add(ops.reshape(scores, [B, KV, G, T, T]), graph.constant([1, 1, 1, T, T], mask));
      return ops.matmul(ops.reshape(ops.softmax(masked), [B, KV, G * T, T]), v!);
    };
    const shapes = { q: [B, KV, G * T, D], k: [B, KV, T, D], v: [B, KV, T, D] };
    expect(await gradientError(differentiable(shapes, 3, build), 9)).toBeLessThan(TOLERANCE);
  });

  test('a head in chunks gives the loss and gradients of plain logits', async () => {
    const [n, width, vocabulary] = [600, 3, 2 ** 15];
    const build = (plain: boolean) => (graph: Graph) => {
      const x = graph.input('x', [n, width]);
      const w = graph.input('w', [vocabulary, width]);
      const some = [3, vocabulary - 1, -100, 3, 0];
      const labels = graph.constant([n], ints(Array.from({ length: n }, (_, i) => some[i % some.length]!)));
      // Zeros are added to the logits, so that crossEntropy does not see the output head and does not divide it into
      // chunks.
      const zero = graph.constant([1], new Float32Array(1));
      const logits = plain ? ops.add(ops.linear(x, w), zero) : ops.linear(x, w);
      const losses = ops.crossEntropy(logits, labels);
      const [dx, dw] = gradients(ops.reduceSum(losses), [x, w]);
      return { losses, dx: dx!, rows: ops.slice(dw!, 0, 0, 8), sum: ops.reduceSum(dw!, 0) };
    };
    expect(ops.LOGITS_CHUNK_BYTES / (4 * vocabulary)).toBeLessThan(n);
    const feeds = { x: numbers(n * width, 1), w: numbers(vocabulary * width, 2) };
    const plain = await evaluate(build(true), feeds);
    const chunked = await evaluate(build(false), feeds);
    for (const [name, values] of Object.entries(plain)) {
      for (const [i, value] of values.entries()) expect(chunked[name]![i]).toBeCloseTo(value, 3);
    }
  });

  test('a frozen head in chunks, with more tokens than one pass takes, gives the same loss and gradients', async () => {
    // One pass takes 2,048 tokens, so 2,050 tokens take two passes.
    const [n, width, vocabulary] = [2050, 3, 50];
    const build = (plain: boolean, smoothing: number) => (graph: Graph) => {
      const x = graph.input('x', [n, width]);
      const w = graph.constant([vocabulary, width], numbers(vocabulary * width, 2));
      const labels = ints(Array.from({ length: n }, (_, i) => (i % 3 === 2 ? -100 : (7 * i) % vocabulary)));
      const zero = graph.constant([1], new Float32Array(1));
      const logits = plain ? ops.add(ops.linear(x, w), zero) : ops.linear(x, w);
      const losses = ops.crossEntropy(logits, graph.constant([n], labels), { smoothing, chunk: 16 });
      return { losses, dx: gradients(ops.reduceSum(losses), [x])[0]! };
    };
    const feeds = { x: numbers(n * width, 1).map((value) => 20 * value) };
    for (const smoothing of [0, 0.2]) {
      const plain = await evaluate(build(true, smoothing), feeds);
      const inPieces = await evaluate(build(false, smoothing), feeds);
      for (const [name, values] of Object.entries(plain)) {
        for (const [i, value] of values.entries()) expect(inPieces[name]![i]).toBeCloseTo(value, 3);
      }
    }
  });

  test('a step holds the probabilities of one chunk of tokens at a time', () => {
    const graph = new Graph();
    const [n, vocabulary] = [4000, 2 ** 15];
    const x = graph.input('x', [n, 3]);
    const logits = ops.linear(x, graph.weight('head', [vocabulary, 3]));
    const loss = ops.reduceSum(ops.crossEntropy(logits, graph.input('labels', [n], 'int64')));
    graph.output('loss', loss);
    graph.output('dx', gradients(loss, [x])[0]!);
    // At most the logits of one chunk and their softmax are in memory. The logits of all tokens would fill 7.8 chunks.
    expect(graphCost(graph).activationBytes).toBeLessThan(2.1 * ops.LOGITS_CHUNK_BYTES);
  });

  test('no gradients are computed below the lowest trained tensor', () => {
    const graph = new Graph();
    const frozen = ops.silu(ops.linear(graph.input('x', [2, 3]), graph.weight('below', [3, 3])));
    const trained = graph.input('w', [1, 3]);
    const loss = ops.reduceSum(ops.linear(frozen, trained));
    const before = graph.nodes.length;
    const [dw] = gradients(loss, [trained]);
    // The gradient of the loss is broadcast to the shape of the product, and multiplied by the frozen activations.
    expect(graph.nodes.slice(before).map((node) => node.operation)).toEqual(['reshape', 'broadcast', 'gemm']);
    expect(dw!.shape).toEqual([1, 3]);
  });

  test('a repeated label far from the largest logit does not underflow', async () => {
    const { loss } = await evaluate(
      (graph) => {
        const logits = graph.input('logits', [1, 3]);
        return { loss: ops.crossEntropy(logits, graph.constant([1], ints([0]))) };
      },
      { logits: Float32Array.of(-500, 500, 499) },
    );
    expect(loss![0]).toBeCloseTo(1000 + Math.log(1 + Math.exp(-1)), 3);
  });

  test('a wrong loss or parameter is refused with a code', () => {
    const graph = new Graph();
    const x = graph.input('x', [2]);
    const other = graph.input('other', [2]);
    const loss = ops.reduceSum(ops.exp(x));
    expect(() => gradients(x, [x])).toThrow(withCode('GRAPH_SHAPE'));
    expect(() => gradients(loss, [other])).toThrow(withCode('GRAPH_NO_GRADIENT'));
    const logits = graph.input('logits', [2, 3]);
    const labels = graph.constant([2], ints([0, 1]));
    const [slope] = gradients(ops.reduceSum(ops.crossEntropy(logits, labels)), [logits]);
    const second = ops.reduceSum(ops.multiply(slope!, slope!));
    expect(() => gradients(second, [logits])).toThrow(withCode('GRAPH_NOT_DIFFERENTIABLE'));
    const [bend] = gradients(ops.reduceSum(ops.silu(x)), [x]);
    expect(() => gradients(ops.reduceSum(bend!), [x])).toThrow(withCode('GRAPH_NOT_DIFFERENTIABLE'));
  });
});
