import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradients } from '../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../lora/graph/graph.ts';
import * as ops from '../../../lora/graph/ops.ts';
import { elementCount, type Shape } from '../../../lora/graph/shapes.ts';
import { isSwarmError } from '../../../protocol/errors.ts';
import { type Differentiable, evaluate, gradientError, numbers } from '../../utils/graphs.ts';

/** Central differences in float32 are no better than this. */
const TOLERANCE = 5e-3;

const size = fc.integer({ min: 1, max: 5 });
const shape = fc.array(size, { minLength: 1, maxLength: 4 });
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

/** A shape that broadcasts to the given one: some axes 1, some leading axes dropped. */
function narrower(wide: Shape): fc.Arbitrary<Shape> {
  return fc
    .tuple(fc.array(fc.boolean(), { minLength: wide.length, maxLength: wide.length }), fc.nat(wide.length))
    .map(([ones, dropped]) => wide.map((length, axis) => (ones[axis] ? 1 : length)).slice(dropped));
}

type Build = Differentiable['build'];

function differentiable(
  shapes: Record<string, Shape>,
  from: number,
  build: Build,
  offset = 0,
): Differentiable {
  const inputs: Record<string, { shape: Shape; data: Float32Array }> = {};
  for (const [index, [name, of]] of Object.entries(shapes).entries()) {
    const data = numbers(elementCount(of), from + 101 * index).map((value) => value + offset);
    inputs[name] = { shape: of, data };
  }
  return { inputs, build };
}

function ints(values: readonly number[]): BigInt64Array {
  return BigInt64Array.from(values, BigInt);
}

const unary = (operation: (x: Tensor) => Tensor, offset = 0) =>
  fc
    .tuple(shape, seed)
    .map(([of, from]) => differentiable({ x: of }, from, (_, { x }) => operation(x!), offset));

const binary = (operation: (a: Tensor, b: Tensor) => Tensor, offset = 0) =>
  shape
    .chain((wide) => fc.tuple(fc.constant(wide), narrower(wide), seed, fc.boolean()))
    .map(([wide, narrow, from, swap]) => {
      const shapes: Record<string, Shape> = swap ? { a: narrow, b: wide } : { a: wide, b: narrow };
      return differentiable(shapes, from, (_, { a, b }) => operation(a!, b!), offset);
    });

const flags = fc.record({
  transposeA: fc.boolean(),
  transposeB: fc.boolean(),
  scale: fc.constantFrom(1, 0.5, -2),
});

const product = fc
  .tuple(fc.array(size, { maxLength: 2 }), size, size, size, flags, seed)
  .map(([lead, m, k, n, options, from]) => {
    const a = [...lead, ...(options.transposeA ? [k, m] : [m, k])];
    const b = [...lead, ...(options.transposeB ? [n, k] : [k, n])];
    return differentiable({ a, b }, from, (_, tensors) => ops.matmul(tensors.a!, tensors.b!, options));
  });

const CASES: Record<string, fc.Arbitrary<Differentiable>> = {
  add: binary(ops.add),
  subtract: binary(ops.subtract),
  multiply: binary(ops.multiply),
  divide: binary(ops.divide, 3),
  scale: unary((x) => ops.scale(x, -1.5)),
  negate: unary(ops.negate),
  exp: unary(ops.exp),
  log: unary(ops.log, 3),
  sqrt: unary(ops.sqrt, 3),
  sigmoid: unary(ops.sigmoid),
  silu: unary(ops.silu),
  softmax: unary(ops.softmax),
  matmul: product,
  addmm: fc.tuple(size, size, size, flags, seed).map(([m, k, n, options, from]) => {
    const a = options.transposeA ? [k, m] : [m, k];
    const b = options.transposeB ? [n, k] : [k, n];
    return differentiable({ c: [m, n], a, b }, from, (_, t) =>
      ops.addmm(t.c!, t.a!, t.b!, { ...options, beta: 0.5 }),
    );
  }),
  'LoRA on a linear layer': fc
    .tuple(size, size, size, seed)
    .map(([n, inner, out, from]) =>
      differentiable({ x: [n, inner], w: [out, inner], A: [2, inner], B: [out, 2] }, from, (_, t) =>
        ops.linear(ops.linear(t.x!, t.A!), t.B!, { scale: 2, addTo: ops.linear(t.x!, t.w!) }),
      ),
    ),
  reduceSum: fc
    .tuple(shape, fc.nat(3), fc.boolean(), seed)
    .map(([of, axis, keep, from]) =>
      differentiable({ x: of }, from, (_, { x }) => ops.reduceSum(x!, axis % of.length, keep)),
    ),
  reduceMean: unary((x) => ops.reduceMean(x)),
  broadcastTo: shape
    .chain((wide) => fc.tuple(fc.constant(wide), narrower(wide), seed))
    .map(([wide, narrow, from]) =>
      differentiable({ x: narrow }, from, (_, { x }) => ops.broadcastTo(x!, wide)),
    ),
  reshape: unary((x) => ops.reshape(x, [-1, 1])),
  transpose: fc
    .tuple(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), size, size, size, seed)
    .map(([permutation, a, b, c, from]) =>
      differentiable({ x: [a, b, c] }, from, (_, { x }) => ops.transpose(x!, permutation)),
    ),
  'slice, pad and concat': fc
    .tuple(fc.integer({ min: 2, max: 6 }), size, seed)
    .map(([rows, width, from]) =>
      differentiable({ x: [rows, width], z: [2, width] }, from, (_, { x, z }) =>
        ops.concat([ops.pad(ops.slice(x!, 0, 1, rows), 0, 1, 2), z!, x!], 0),
      ),
    ),
  rmsNorm: fc
    .tuple(shape, seed)
    .map(([of, from]) =>
      differentiable({ x: of, weight: [of.at(-1)!] }, from, (_, { x, weight }) =>
        ops.rmsNorm(x!, weight!, 0.1),
      ),
    ),
  gatherRows: fc
    .tuple(size, size, fc.array(fc.nat(100), { minLength: 1, maxLength: 8 }), seed)
    .map(([rows, width, ids, from]) =>
      differentiable({ table: [rows, width] }, from, (graph, { table }) => {
        const chosen = ints(ids.map((id) => id % rows));
        return ops.gatherRows(table!, graph.constant([ids.length], chosen));
      }),
    ),
  scatterAddRows: fc
    .tuple(size, size, fc.array(fc.nat(100), { minLength: 1, maxLength: 8 }), seed)
    .map(([count, width, ids, from]) =>
      differentiable({ base: [count, width], rows: [ids.length, width] }, from, (graph, { base, rows }) => {
        const chosen = ints(ids.map((id) => id % count));
        return ops.scatterAddRows(base!, graph.constant([ids.length], chosen), rows!);
      }),
    ),
  rotaryEmbedding: fc
    .tuple(size, size, size, fc.integer({ min: 1, max: 3 }), seed)
    .map(([b, h, t, half, from]) =>
      differentiable({ x: [b, h, t, 2 * half] }, from, (graph, { x }) => {
        const angles = numbers(7 * half, from + 5).map((value) => 3 * value);
        const table = (f: (angle: number) => number) => graph.constant([7, half], angles.map(f));
        const positions = ints(Array.from({ length: b * t }, (_, i) => (3 * i + 1) % 7));
        return ops.rotaryEmbedding(x!, graph.constant([b, t], positions), table(Math.cos), table(Math.sin));
      }),
    ),
  'crossEntropy of given logits': fc
    .tuple(size, size, fc.array(fc.nat(5), { minLength: 5, maxLength: 5 }), seed)
    .map(([n, vocabulary, labels, from]) =>
      differentiable({ logits: [n, vocabulary] }, from, (graph, { logits }) =>
        ops.crossEntropy(logits!, labelsOf(graph, n, vocabulary, labels)),
      ),
    ),
  'crossEntropy of an output head': fc
    .tuple(size, size, size, fc.array(fc.nat(5), { minLength: 5, maxLength: 5 }), seed)
    .map(([n, width, vocabulary, labels, from]) =>
      differentiable({ x: [n, width], w: [vocabulary, width] }, from, (graph, { x, w }) =>
        ops.crossEntropy(ops.linear(x!, w!), labelsOf(graph, n, vocabulary, labels)),
      ),
    ),
  'crossEntropy with smoothed labels': fc
    .tuple(size, size, size, fc.array(fc.nat(5), { minLength: 5, maxLength: 5 }), fc.boolean(), seed)
    .map(([n, width, vocabulary, labels, head, from]) =>
      differentiable({ x: [n, width], w: [vocabulary, width] }, from, (graph, { x, w }) => {
        const logits = ops.linear(x!, w!);
        const options = { smoothing: 0.2 };
        // Doubling hides from crossEntropy where the logits come from.
        return ops.crossEntropy(
          head ? logits : ops.scale(logits, 2),
          labelsOf(graph, n, vocabulary, labels),
          options,
        );
      }),
    ),
};

/** Every sixth label or so is missing. */
function labelsOf(graph: Graph, n: number, vocabulary: number, labels: readonly number[]): Tensor {
  const chosen = labels.slice(0, n).map((label) => (label === 5 ? -100 : label % vocabulary));
  return graph.constant([n], ints(chosen));
}

describe('the gradient rule of every operation agrees with central differences', () => {
  for (const [name, cases] of Object.entries(CASES)) {
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

  test('an output head in chunks gives the loss and gradients of plain logits', async () => {
    const [n, width, vocabulary] = [300, 3, 2 ** 15];
    const build = (plain: boolean) => (graph: Graph) => {
      const x = graph.input('x', [n, width]);
      const w = graph.input('w', [vocabulary, width]);
      const some = [3, vocabulary - 1, -100, 3, 0];
      const labels = graph.constant([n], ints(Array.from({ length: n }, (_, i) => some[i % some.length]!)));
      // Adding zeros hides from crossEntropy where the logits come from.
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

  test('nothing is computed below the lowest trained tensor', () => {
    const graph = new Graph();
    const frozen = ops.silu(ops.linear(graph.input('x', [2, 3]), graph.weight('below', [3, 3])));
    const trained = graph.input('w', [1, 3]);
    const loss = ops.reduceSum(ops.linear(frozen, trained));
    const before = graph.nodes.length;
    const [dw] = gradients(loss, [trained]);
    // The seed spread over the products, and one product with the frozen activations.
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

  test('errors by code', () => {
    const graph = new Graph();
    const x = graph.input('x', [2]);
    const other = graph.input('other', [2]);
    const loss = ops.reduceSum(ops.exp(x));
    const codeOf = (run: () => unknown) => {
      try {
        run();
      } catch (error) {
        return isSwarmError(error) ? error.code : error;
      }
    };
    expect(codeOf(() => gradients(x, [x]))).toBe('GRAPH_SHAPE');
    expect(codeOf(() => gradients(loss, [other]))).toBe('GRAPH_NO_GRADIENT');
    const logits = graph.input('logits', [2, 3]);
    const labels = graph.constant([2], ints([0, 1]));
    const [slope] = gradients(ops.reduceSum(ops.crossEntropy(logits, labels)), [logits]);
    const second = ops.reduceSum(ops.multiply(slope!, slope!));
    expect(codeOf(() => gradients(second, [logits]))).toBe('GRAPH_NOT_DIFFERENTIABLE');
    const [bend] = gradients(ops.reduceSum(ops.silu(x)), [x]);
    expect(codeOf(() => gradients(ops.reduceSum(bend!), [x]))).toBe('GRAPH_NOT_DIFFERENTIABLE');
  });
});
