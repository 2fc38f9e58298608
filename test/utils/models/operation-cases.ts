/** Small graphs of one operation each, for tests of all operations: gradient rules and engines. */
import fc from 'fast-check';
import type { Graph, Tensor } from '../../../lora/graph/graph.ts';
import * as ops from '../../../lora/graph/ops.ts';
import { elementCount, type Shape } from '../../../lora/graph/shapes.ts';
import { type Differentiable, numbers } from './graphs.ts';

const size = fc.integer({ min: 1, max: 5 });
const shape = fc.array(size, { minLength: 1, maxLength: 4 });
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

/** Generates a shape that broadcasts to the given one: some axes 1, some leading axes dropped. */
function narrower(wide: Shape): fc.Arbitrary<Shape> {
  return fc
    .tuple(fc.array(fc.boolean(), { minLength: wide.length, maxLength: wide.length }), fc.nat(wide.length))
    .map(([ones, dropped]) => wide.map((length, axis) => (ones[axis] ? 1 : length)).slice(dropped));
}

export type Build = Differentiable['build'];

/** Returns inputs of these shapes with numbers in [−1, 1) + `offset`. */
export function differentiable(
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

export function ints(values: readonly number[]): BigInt64Array {
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

/** Cases by name, with random shapes. Together they use every operation. */
export const OPERATION_CASES: Record<string, fc.Arbitrary<Differentiable>> = {
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
  geluTanh: fc
    .tuple(shape, seed)
    .map(([of, from]) =>
      differentiable({ x: of }, from, (graph, { x }) =>
        ops.geluTanh(ops.multiply(x!, graph.constant([], Float32Array.of(3)))),
      ),
    ),
  matmul: product,
  addmm: fc.tuple(size, size, size, flags, seed).map(([m, k, n, options, from]) => {
    const a = options.transposeA ? [k, m] : [m, k];
    const b = options.transposeB ? [n, k] : [k, n];
    return differentiable({ c: [m, n], a, b }, from, (_, t) =>
      ops.addmm(t.c!, t.a!, t.b!, { ...options, beta: 0.5 }),
    );
  }),
  'linear with a bias': fc
    .tuple(size, size, size, seed)
    .map(([n, inner, out, from]) =>
      differentiable({ x: [n, inner], w: [out, inner], b: [out] }, from, (_, { x, w, b }) =>
        ops.linear(x!, w!, { addTo: b, scale: 0.5 }),
      ),
    ),
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
  layerNorm: fc.tuple(shape, seed).map(([of, from]) => {
    const width = [of.at(-1)!];
    return differentiable({ x: of, weight: width, bias: width }, from, (_, { x, weight, bias }) =>
      ops.layerNorm(x!, weight!, bias!, 0.1),
    );
  }),
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
  'attention under a causal mask': fc
    .tuple(size, fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }), fc.option(size), seed)
    .map(([heads, segments, window, from]) => {
      const length = segments.length;
      return differentiable({ scores: [1, heads, 1, length, length] }, from, (graph, { scores }) => {
        // Positions count from 0 at each change of segment.
        const starts = segments.map((segment, i) => (i === 0 || segment !== segments[i - 1] ? i : 0));
        const positions = segments.map((_, i) => i - Math.max(...starts.slice(0, i + 1)));
        const mask = ops.causalMask(graph.constant([1, length], ints(positions)), window);
        return ops.softmax(ops.add(scores!, mask));
      });
    }),
  dropout: fc
    .tuple(shape, fc.constantFrom(0.1, 0.5, 0.9), fc.nat(2 ** 31 - 1), seed)
    .map(([of, rate, stream, from]) =>
      differentiable({ x: of }, from, (graph, { x }) =>
        ops.dropout(x!, rate, graph.constant([1], ints([from])), stream),
      ),
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
  'crossEntropy of a frozen head in chunks': fc
    .tuple(size, size, size, size, fc.array(fc.nat(5), { minLength: 5, maxLength: 5 }), seed)
    .map(([n, width, vocabulary, chunk, labels, from]) =>
      differentiable({ x: [n, width] }, from, (graph, { x }) => {
        const head = graph.constant([vocabulary, width], numbers(vocabulary * width, from + 7));
        return ops.crossEntropy(ops.linear(x!, head), labelsOf(graph, n, vocabulary, labels), { chunk });
      }),
    ),
  'crossEntropy with smoothed labels': fc
    .tuple(size, size, size, fc.array(fc.nat(5), { minLength: 5, maxLength: 5 }), fc.boolean(), seed)
    .map(([n, width, vocabulary, labels, head, from]) =>
      differentiable({ x: [n, width], w: [vocabulary, width] }, from, (graph, { x, w }) => {
        const logits = ops.linear(x!, w!);
        const options = { smoothing: 0.2 };
        // If the logits do not come straight from a linear operation, crossEntropy cannot fuse the output head.
        return ops.crossEntropy(
          head ? logits : ops.scale(logits, 2),
          labelsOf(graph, n, vocabulary, labels),
          options,
        );
      }),
    ),
};

/** Returns labels of which about one in six is missing. */
function labelsOf(graph: Graph, n: number, vocabulary: number, labels: readonly number[]): Tensor {
  const chosen = labels.slice(0, n).map((label) => (label === 5 ? -100 : label % vocabulary));
  return graph.constant([n], ints(chosen));
}
