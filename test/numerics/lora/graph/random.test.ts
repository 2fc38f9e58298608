import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Executable } from '../../../../lora/engines/engine.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import { dropout, multiply, randomSeed, reduceSum, uniform } from '../../../../lora/graph/ops.ts';
import { withCode } from '../../../utils/source/codes.ts';

const ROWS = 256;
const COLUMNS = 192;
const COUNT = ROWS * COLUMNS;

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

const executables: Executable[] = [];
afterAll(() => Promise.all(executables.map((executable) => executable.dispose())));

async function compiled(build: (graph: Graph) => Record<string, Tensor>) {
  const graph = new Graph();
  for (const [name, tensor] of Object.entries(build(graph))) graph.output(name, tensor);
  const executable = await engine.compile(graph, null);
  executables.push(executable);
  return (seed: number, feeds: Record<string, Float32Array> = {}) =>
    executable.run({ ...feeds, seed: BigInt64Array.of(BigInt(seed)) });
}

const numbers = (stream: number, shape: readonly number[] = [ROWS, COLUMNS]) =>
  compiled((graph) => ({ u: uniform(shape, randomSeed(graph), stream) }));

/** Five standard errors of the correlation of independent numbers. */
const UNCORRELATED = 5 / Math.sqrt(COUNT);

function correlation(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - 0.5) * (b[i]! - 0.5);
  return (12 * sum) / a.length;
}

/** The numbers that lora/graph/ops/random.ts describes, computed with JavaScript's 32-bit arithmetic. */
function expected(rows: number, columns: number, seed: number, stream: number): Float32Array {
  const permute = (x: number) => Math.imul(x, (2 * x + 1) | 0);
  const mix = (x: number) => permute((x + Math.trunc(x / 2 ** 16)) | 0);
  const hash = (x: number) => mix(mix(mix(x)));
  const start = Math.imul(seed, 0x9e3779b1) + stream;
  const key = hash(start | 0);
  const factorKey = hash((start + 0x27d4eb2f) | 0);
  const of = (number: number, step: number, start: number) => hash((Math.imul(number, step) + start) | 0);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const sum = (of(row, 0x85ebca6b, key) + of(column, 0xc2b2ae35, key)) | 0;
    const odd = 2 * (of(row, 0x85ebca6b, factorKey) + of(column, 0xc2b2ae35, factorKey)) + 1;
    return Math.trunc(permute(Math.imul(sum, odd | 0)) / 2 ** 8) / 2 ** 24 + 0.5;
  });
}

describe('uniform', () => {
  test('matches its description bit for bit', async () => {
    for (const [seed, stream] of [
      [0, 0],
      [1, 5],
      [2 ** 31 - 1, 2 ** 31 - 1],
      [123456789, 987654321],
    ] as const) {
      const { u } = await (await numbers(stream, [37, 5, 11]))(seed);
      expect(u).toEqual(expected(37 * 5, 11, seed, stream));
    }
  });

  test.each([0, 1, 2, 2 ** 31 - 1])(
    'seed %d: has the moments and frequencies of uniform numbers',
    async (seed) => {
      const { u } = await (await numbers(3))(seed);
      const values = u!;
      expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
      const mean = values.reduce((a, b) => a + b, 0) / COUNT;
      expect(Math.abs(mean - 0.5)).toBeLessThan(5 / Math.sqrt(12 * COUNT));
      expect(Math.abs(correlation(values, values) - 1)).toBeLessThan((5 * 0.9) / Math.sqrt(COUNT));
      const bins = new Float64Array(256);
      for (const value of values) bins[Math.floor(256 * value)]!++;
      const square = bins.reduce((sum, found) => sum + (found - COUNT / 256) ** 2 / (COUNT / 256), 0);
      // χ² with 255 degrees of freedom: mean 255, deviation 22.6.
      expect(Math.abs(square - 255)).toBeLessThan(5 * 22.6);
    },
  );

  test('neighbours, rows, columns, streams and seeds are uncorrelated', async () => {
    const run = await numbers(3);
    const u = (await run(1)).u!;
    const shifted = (by: number) => Float32Array.from(u, (_, i) => u[(i + by) % COUNT]!);
    for (const by of [1, 2, COLUMNS, 2 * COLUMNS, COLUMNS + 1, 16 * COLUMNS])
      expect(Math.abs(correlation(u, shifted(by))), `${by} places on`).toBeLessThan(UNCORRELATED);
    for (const seed of [2, 3, 2 ** 20, 2 ** 30])
      expect(Math.abs(correlation(u, (await run(seed)).u!)), `seed ${seed}`).toBeLessThan(UNCORRELATED);
    for (const stream of [2, 4, 2 ** 20, 2 ** 30]) {
      const other = (await (await numbers(stream))(1)).u!;
      expect(Math.abs(correlation(u, other)), `stream ${stream}`).toBeLessThan(UNCORRELATED);
    }
  });

  test('whole rows and whole columns are uncorrelated', async () => {
    const u = (await (await numbers(8))(4)).u!;
    const means = (count: number, length: number, at: (i: number, j: number) => number) =>
      Float64Array.from({ length: count }, (_, i) => {
        let sum = 0;
        for (let j = 0; j < length; j++) sum += u[at(i, j)]! - 0.5;
        return (sum / length) * Math.sqrt(12 * length);
      });
    const rows = means(ROWS, COLUMNS, (i, j) => i * COLUMNS + j);
    const columns = means(COLUMNS, ROWS, (i, j) => j * COLUMNS + i);
    for (const normals of [rows, columns]) {
      const square = normals.reduce((sum, value) => sum + value * value, 0) / normals.length;
      expect(Math.abs(square - 1)).toBeLessThan(5 * Math.sqrt(2 / normals.length));
    }
  });

  test('refuses an invalid seed and an invalid stream', () => {
    const graph = new Graph();
    expect(() => uniform([2], graph.input('x', [1]), 0)).toThrow(withCode('GRAPH_DTYPE'));
    expect(() => uniform([2], graph.input('two', [2], 'int64'), 0)).toThrow(withCode('GRAPH_SHAPE'));
    for (const stream of [-1, 0.5, 2 ** 31])
      expect(() => uniform([2], randomSeed(graph), stream)).toThrow(withCode('GRAPH_SHAPE'));
    for (const rate of [-0.1, 1, Number.NaN])
      expect(() => dropout(graph.input('x', [1]), rate, randomSeed(graph), 0)).toThrow(
        withCode('GRAPH_SHAPE'),
      );
  });
});

describe('dropout', () => {
  test.each([0.1, 0.5, 0.9])('at rate %d sets that share to zero and keeps the expectation', async (rate) => {
    const run = await compiled((graph) => ({
      y: dropout(graph.input('x', [ROWS, COLUMNS]), rate, randomSeed(graph), 1),
    }));
    const y = (await run(5, { x: new Float32Array(COUNT).fill(3) })).y!;
    const zeros = y.filter((value) => value === 0).length;
    expect(Math.abs(zeros / COUNT - rate)).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / COUNT));
    const kept = Math.fround(3 * Math.fround(1 / (1 - rate)));
    expect(y.every((value) => value === 0 || value === kept)).toBe(true);
  });

  test('the gradient passes through the same elements, with the same factor', async () => {
    const run = await compiled((graph) => {
      const x = graph.input('x', [ROWS, COLUMNS]);
      const y = dropout(x, 0.3, randomSeed(graph), 9);
      const weights = graph.input('weights', [ROWS, COLUMNS]);
      return { y, dx: gradients(reduceSum(multiply(y, weights)), [x])[0]! };
    });
    const x = Float32Array.from({ length: COUNT }, (_, i) => 1 + (i % 7));
    const weights = Float32Array.from({ length: COUNT }, (_, i) => Math.sin(i));
    const { y, dx } = await run(6, { x, weights });
    const factor = Math.fround(1 / (1 - 0.3));
    expect(dx!.some((value) => value === 0)).toBe(true);
    dx!.forEach((value, i) => {
      if (value !== (y![i] === 0 ? 0 : Math.fround(weights[i]! * factor)) && weights[i] !== 0)
        throw new Error(`at ${i}: ${value}, ${y![i]}`);
    });
  });

  test('at rate 0 returns its operand', () => {
    const graph = new Graph();
    const x = graph.input('x', [2, 2]);
    expect(dropout(x, 0, randomSeed(graph), 0)).toBe(x);
  });
});
