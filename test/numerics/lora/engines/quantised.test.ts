import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { createEngine, type Engine, type Feeds, type WeightFile } from '../../../../lora/engines/engine.ts';
import { locateWeight, type TableEntry } from '../../../../lora/engines/weights.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { elementCount } from '../../../../lora/graph/shapes.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { adaptedParameters } from '../../../../lora/train/adapted-model.ts';
import { rowFeeds, trainingGraph } from '../../../../lora/train/step.ts';
import { runOnEach } from '../../../utils/models/executors.ts';
import { completionRows, FAMILY_FIXTURES, relativeDifference } from '../../../utils/models/families.ts';
import { numbers } from '../../../utils/models/graphs.ts';
import { dequantisedFile, quantisedNames } from '../../../utils/models/quantised.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

/**
 * Maximum error relative to a tensor's largest value, with float32 activations. It is small, because both sides multiply
 * the same numbers.
 */
const EXACT = 1e-3;
/** Maximum error with activations rounded to 8 bits. It is large, because errors do not average out in such small models. */
const ROUNDED = 0.15;
const BITS = [4, 8] as const;

let folder: string;
let exact: Engine;
let rounded: Engine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quantised-test-'));
  exact = await createEngine('onnx-cpu', { threads: 1, roundActivations: false });
  rounded = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(folder, { recursive: true }));

/** Returns the fixture's quantised weights, and the same numbers in float32. */
async function bothFiles(fixture: string, bits: 4 | 8): Promise<[fewer: WeightFile, dense: WeightFile]> {
  const fewer = await prepareWeights(await openBase(join(FIXTURES, fixture)), folder, { bits });
  return [fewer, await dequantisedFile(fewer, join(folder, `${fixture.replace('/', '-')}.${bits}.dense`))];
}

describe.each(BITS)('%i bits', (bits) => {
  test('every use of a weight computes with the numbers it stands for', async () => {
    const [fewer, dense] = await bothFiles('llama-tiny-untied', bits);
    for (const [name, { shape }] of quantisedNames(fewer)) {
      const [rows, columns] = shape;
      const graph = new Graph();
      const w = graph.weight(name, shape);
      const x = graph.input('x', [5, columns]);
      const y = graph.input('y', [5, rows]);
      const ids = BigInt64Array.from([2, rows - 1, 0, 2], BigInt);
      const uses: Record<string, Tensor> = {
        product: ops.linear(x, w),
        'scaled onto something': ops.addmm(y, x, w, { transposeB: true, scale: 0.5, beta: 2 }),
        'with a bias': ops.linear(x, w, { addTo: graph.input('bias', [rows]) }),
        transposed: ops.matmul(y, w),
        'transposed onto something': ops.addmm(x, y, w, { scale: -1 }),
        'first operand': ops.matmul(w, x, { transposeB: true }),
        elementwise: ops.multiply(w, w),
        'some rows': ops.slice(w, 0, 3, rows - 1),
        'some columns': ops.slice(w, 1, 3, columns - 1),
        lookup: ops.gatherRows(w, graph.constant([4], ids)),
      };
      for (const [use, tensor] of Object.entries(uses)) graph.output(use, tensor);
      const feeds: Feeds = {
        x: numbers(5 * columns, 1),
        y: numbers(5 * rows, 2),
        bias: numbers(rows, 3),
      };
      const [found] = await runOnEach([exact], graph, feeds, fewer);
      const [expected] = await runOnEach([exact], graph, feeds, dense);
      for (const use of Object.keys(uses))
        expect(relativeDifference(found![use]!, expected![use]!), `${name} ${use}`).toBeLessThan(1e-5);
    }
  });

  test('an output head in chunks gives the loss and gradient of the numbers it stands for', async () => {
    const [fewer, dense] = await bothFiles('llama-tiny-untied', bits);
    const [name, { shape }] = [...fewer.tables!].at(-1)!;
    const [vocabulary, width] = shape;
    const labels = BigInt64Array.from([3, 0, vocabulary - 1, -100, 17], BigInt);
    for (const smoothing of [0, 0.1]) {
      const graphWith = (chunk?: number) => {
        const graph = new Graph();
        const x = graph.input('x', [5, width]);
        const logits = ops.linear(x, graph.weight(name, shape));
        const losses = ops.crossEntropy(logits, graph.constant([5], labels), { smoothing, chunk });
        graph.output('losses', losses);
        graph.output('slope', gradients(ops.reduceSum(losses, null, false), [x])[0]!);
        return graph;
      };
      // These inputs give logits of a few tens, as in real models, so most probabilities are small.
      const feeds = { x: numbers(5 * width, 4).map((value) => value * 100) };
      const [expected] = await runOnEach([exact], graphWith(), feeds, dense);
      for (const [weights, chunk] of [[fewer], [fewer, 7], [fewer, vocabulary], [dense, 7]] as const) {
        const [found] = await runOnEach([exact], graphWith(chunk), feeds, weights);
        for (const output of ['losses', 'slope'])
          expect(relativeDifference(found![output]!, expected![output]!), `${output} ${chunk}`).toBeLessThan(
            1e-5,
          );
      }
    }
  });

  test.each(FAMILY_FIXTURES)(
    '%s: gives the loss and gradients of the base it stands for',
    async (fixture) => {
      const [fewer, dense] = await bothFiles(fixture, bits);
      for (const useDora of [false, true]) {
        const { graph, feeds } = await trainingStep(fixture, useDora);
        const [found] = await runOnEach([exact], graph, feeds, fewer);
        const [fast] = await runOnEach([rounded], graph, feeds, fewer);
        const [expected] = await runOnEach([exact], graph, feeds, dense);
        for (const [name, values] of Object.entries(expected!)) {
          expect(relativeDifference(found![name]!, values), name).toBeLessThan(EXACT);
          expect(relativeDifference(fast![name]!, values), `rounded ${name}`).toBeLessThan(ROUNDED);
        }
      }
    },
  );
});

test('products with a table take it in chunks of rows', async () => {
  const width = 1024;
  // The table has three whole chunks and a remainder.
  const rows = 3 * ops.vocabularyChunk(1, width) + 5;
  const codes = Int8Array.from(numbers(rows * width, 1), (value) => Math.round(127 * value));
  const scales = numbers(rows, 2);
  const path = join(folder, 'table');
  await writeFile(path, [new Uint8Array(scales.buffer), Buffer.alloc(-scales.byteLength & 4095), codes]);
  const [length, offset] = [scales.byteLength, Math.ceil(scales.byteLength / 4096) * 4096];
  const table: TableEntry = {
    shape: [rows, width],
    codes: { offset, length: codes.length, shape: [rows, width] },
    scales: { offset: 0, length, shape: [rows] },
  };

  const graph = new Graph();
  const w = graph.weight('w', table.shape);
  const [x, y] = [graph.input('x', [1, width]), graph.input('y', [1, rows])];
  graph.output('product', ops.addmm(y, x, w, { transposeB: true, scale: 0.5, beta: 2 }));
  graph.output('transposed', ops.addmm(x, y, w, { scale: -1 }));
  const feeds = { x: numbers(width, 3), y: numbers(rows, 4) };
  const [found] = await runOnEach([exact], graph, feeds, {
    path,
    entries: new Map(),
    tables: new Map([['w', table]]),
  });

  const product = new Float64Array(rows);
  const transposed = Float64Array.from(feeds.x);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < width; c++) {
      const value = codes[r * width + c]! * scales[r]!;
      product[r]! += value * feeds.x[c]!;
      transposed[c]! -= value * feeds.y[r]!;
    }
    product[r] = 0.5 * product[r]! + 2 * feeds.y[r]!;
  }
  expect(relativeDifference(found!.product!, Float32Array.from(product))).toBeLessThan(1e-5);
  expect(relativeDifference(found!.transposed!, Float32Array.from(transposed))).toBeLessThan(1e-5);
});

test('an engine without kernels for quantised weights refuses them', async () => {
  const [fewer] = await bothFiles('llama-tiny-untied', 4);
  const [name, { shape }] = quantisedNames(fewer)[0]!;
  const attempt = () => locateWeight(name, new Graph().weight(name, shape), fewer);
  expect(attempt).toThrow(expect.objectContaining({ code: 'ENGINE_WEIGHTS', values: { name, bits: 4 } }));
});

test('a weight of another shape is refused', async () => {
  const [fewer] = await bothFiles('llama-tiny-untied', 8);
  const [name] = quantisedNames(fewer)[0]!;
  const graph = new Graph();
  graph.output('y', ops.linear(graph.input('x', [1, 3]), graph.weight(name, [2, 3])));
  await expect(exact.compile(graph, fewer)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
});

async function trainingStep(fixture: string, useDora: boolean): Promise<{ graph: Graph; feeds: Feeds }> {
  const model = await openBase(join(FIXTURES, fixture));
  const { config, architecture } = model;
  const size = { config, architecture, batch: 2, length: 12 };
  const lora = loraConfig({ rank: 4, alpha: 8, useDora });
  const { graph } = trainingGraph(size, (graph) => adaptedParameters(graph, model, lora));
  const feeds: Record<string, Float32Array | BigInt64Array> = {
    ...rowFeeds(completionRows(2, 12, config.vocabularySize, 0.7), size),
  };
  let seed = 1;
  for (const [name, { shape }] of graph.inputs)
    feeds[name] ??= numbers(elementCount(shape), seed++).map((value) => value * 0.1);
  return { graph, feeds };
}
