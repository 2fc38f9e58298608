import { describe, expect, test } from 'vitest';
import type { Graph, Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { evaluate, numbers } from '../../../utils/models/graphs.ts';

/** Computes the values of one tensor with the engine. */
async function valuesOf(build: (graph: Graph) => Tensor): Promise<number[]> {
  const { y } = await evaluate((graph) => ({ y: build(graph) }));
  return [...y!];
}

const floats = (graph: Graph, shape: number[], values: readonly number[]) =>
  graph.constant(shape, Float32Array.from(values));
const ints = (graph: Graph, shape: number[], values: readonly number[]) =>
  graph.constant(shape, BigInt64Array.from(values, BigInt));

function expectClose(found: readonly number[], expected: readonly number[], digits = 5): void {
  expect(found).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, digits);
}

const sigma = (x: number) => 1 / (1 + Math.exp(-x));

describe('operations compute their definition', () => {
  test.each<[string, (x: Tensor) => Tensor, (x: number) => number]>([
    ['negate', ops.negate, (x) => -x],
    ['exp', ops.exp, Math.exp],
    ['log', ops.log, Math.log],
    ['sqrt', ops.sqrt, Math.sqrt],
    ['sigmoid', ops.sigmoid, sigma],
    ['silu', ops.silu, (x) => x * sigma(x)],
    ['scale', (x) => ops.scale(x, -3), (x) => -3 * x],
  ])('%s', async (_, operation, reference) => {
    const values = [0.25, 1, 2.5, 7];
    expectClose(
      await valuesOf((graph) => operation(floats(graph, [2, 2], values))),
      values.map(reference),
      4,
    );
  });

  test.each<[string, (a: Tensor, b: Tensor) => Tensor, number[]]>([
    ['add', ops.add, [11, 12, 23, 24]],
    ['subtract', ops.subtract, [-9, -8, -17, -16]],
    ['multiply', ops.multiply, [10, 20, 60, 80]],
    ['divide', ops.divide, [0.1, 0.2, 0.15, 0.2]],
  ])('%s broadcasts', async (_, operation, expected) => {
    const values = valuesOf((graph) =>
      operation(floats(graph, [2, 2], [1, 2, 3, 4]), floats(graph, [2, 1], [10, 20])),
    );
    expectClose(await values, expected);
  });

  test('matmul in all four transpositions', async () => {
    const a = [1, 2, 3, 4, 5, 6];
    const b = [1, 0, 2, 1, 0, 3];
    const product = [1 * 1 + 2 * 2 + 3 * 0, 2 * 1 + 3 * 3, 4 + 5 * 2, 5 + 6 * 3].map((value) => 2 * value);
    const turned = (values: number[], rows: number, columns: number) =>
      Array.from({ length: values.length }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        for (const lead of [[], [1]]) {
          const found = await valuesOf((graph) =>
            ops.matmul(
              transposeA
                ? floats(graph, [...lead, 3, 2], turned(a, 2, 3))
                : floats(graph, [...lead, 2, 3], a),
              transposeB
                ? floats(graph, [...lead, 2, 3], turned(b, 3, 2))
                : floats(graph, [...lead, 3, 2], b),
              { transposeA, transposeB, scale: 2 },
            ),
          );
          expectClose(found, product);
        }
      }
    }
  });

  test('addmm computes beta·c + scale·a·b', async () => {
    const found = await valuesOf((graph) =>
      ops.addmm(floats(graph, [1, 1], [10]), floats(graph, [1, 2], [1, 2]), floats(graph, [2, 1], [3, 4]), {
        scale: 2,
        beta: -1,
      }),
    );
    expectClose(found, [12]);
  });

  test('reductions and broadcasting', async () => {
    const x = (graph: Graph) => floats(graph, [2, 3], [1, 2, 3, 4, 5, 6]);
    expectClose(await valuesOf((graph) => ops.reduceSum(x(graph))), [21]);
    expectClose(await valuesOf((graph) => ops.reduceSum(x(graph), 0)), [5, 7, 9]);
    expectClose(await valuesOf((graph) => ops.reduceMean(x(graph), -1, true)), [2, 5]);
    expectClose(
      await valuesOf((graph) => ops.broadcastTo(floats(graph, [2, 1], [1, 2]), [2, 2])),
      [1, 1, 2, 2],
    );
  });

  test('layout', async () => {
    const x = (graph: Graph) => floats(graph, [2, 3], [1, 2, 3, 4, 5, 6]);
    expectClose(await valuesOf((graph) => ops.transpose(x(graph))), [1, 4, 2, 5, 3, 6]);
    expectClose(await valuesOf((graph) => ops.slice(x(graph), 1, 1, 3)), [2, 3, 5, 6]);
    expectClose(await valuesOf((graph) => ops.pad(x(graph), 1, 1, 0)), [0, 1, 2, 3, 0, 4, 5, 6]);
    expectClose(
      await valuesOf((graph) => ops.concat([x(graph), x(graph)], 1)),
      [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6],
    );
  });

  test('softmax and rmsNorm over the last axis', async () => {
    const total = Math.exp(1) + Math.exp(2);
    expectClose(await valuesOf((graph) => ops.softmax(floats(graph, [1, 2], [1, 2]))), [
      Math.exp(1) / total,
      Math.exp(2) / total,
    ]);
    const r = 1 / Math.sqrt((9 + 16) / 2 + 0.5);
    const found = valuesOf((graph) =>
      ops.rmsNorm(floats(graph, [1, 2], [3, 4]), floats(graph, [2], [1, -2]), 0.5),
    );
    expectClose(await found, [3 * r, -8 * r]);
  });

  test('gathers rows, and scatters rows with repeats added', async () => {
    const table = (graph: Graph) => floats(graph, [3, 2], [1, 2, 3, 4, 5, 6]);
    expectClose(
      await valuesOf((graph) => ops.gatherRows(table(graph), ints(graph, [2], [2, 0]))),
      [5, 6, 1, 2],
    );
    const rows = (graph: Graph) => floats(graph, [3, 2], [10, 20, 30, 40, 50, 60]);
    const found = valuesOf((graph) =>
      ops.scatterAddRows(table(graph), ints(graph, [3], [1, 1, 0]), rows(graph)),
    );
    expectClose(await found, [51, 62, 43, 64, 5, 6]);
  });

  test('rotaryEmbedding rotates the pairs (i, i + D/2) by the angle of their position', async () => {
    const [angle, other] = [0.3, 1.1];
    const x = [1, 2, 3, 4];
    const found = valuesOf((graph) =>
      ops.rotaryEmbedding(
        floats(graph, [1, 1, 1, 4], x),
        ints(graph, [1, 1], [1]),
        floats(graph, [2, 2], [1, 1, Math.cos(angle), Math.cos(other)]),
        floats(graph, [2, 2], [0, 0, Math.sin(angle), Math.sin(other)]),
      ),
    );
    expectClose(await found, [
      1 * Math.cos(angle) - 3 * Math.sin(angle),
      2 * Math.cos(other) - 4 * Math.sin(other),
      3 * Math.cos(angle) + 1 * Math.sin(angle),
      4 * Math.cos(other) + 2 * Math.sin(other),
    ]);
  });

  test('crossEntropy is −log softmax at the label, 0 without a label', async () => {
    const logits = [...numbers(12, 5)];
    const labels = [2, -100, 0];
    const expected = labels.map((label, row) => {
      if (label < 0) return 0;
      const z = logits.slice(4 * row, 4 * row + 4);
      return Math.log(z.reduce((sum, value) => sum + Math.exp(value), 0)) - z[label]!;
    });
    const found = valuesOf((graph) =>
      ops.crossEntropy(floats(graph, [3, 4], logits), ints(graph, [3], labels)),
    );
    expectClose(await found, expected);
  });
});
