import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LoraConfig, loraConfig } from '../../../lora/adapter/config.ts';
import { initAdapter } from '../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../lora/adapter/layout.ts';
import { readPeftFolder } from '../../../lora/adapter/peft.ts';
import type { Row } from '../../../lora/data/packing.ts';
import { createEngine, type Engine, type Feeds } from '../../../lora/engines/engine.ts';
import { elementCount } from '../../../lora/graph/shapes.ts';
import { type Model, openModel, prepareWeights } from '../../../lora/models/model.ts';
import { trainableParameters } from '../../../lora/models/parameters.ts';
import { readTensor } from '../../../lora/models/safetensors.ts';
import { adaptedParameters } from '../../../lora/train/adapted.ts';
import { rowFeeds, type TrainingGraphOptions, trainingGraph } from '../../../lora/train/step.ts';
import { Trainer } from '../../../lora/train/trainer.ts';
import { disagreement, runOnEach } from '../../utils/executors.ts';
import { numbers } from '../../utils/graphs.ts';
import { FIXTURES, maxDifference } from '../../utils/reference.ts';
import { tf, tfjsOnCpu } from '../../utils/tfjs.ts';
import { tinyDeps, tinyRows, tinySettings } from '../../utils/tiny-trainer.ts';

/** Two float32 executors that sum in different orders. */
const TOLERANCE = 1e-4;

const FAMILIES = [
  'llama-tiny-tied',
  'llama-tiny-untied',
  ...(await readdir(join(FIXTURES, 'families'))).sort().map((name) => `families/${name}`),
];

let folder: string;
let engines: Engine[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-models-test-'));
  engines = [await tfjsOnCpu(), await createEngine('onnx-cpu', { threads: 1 })];
});

afterAll(() => rm(folder, { recursive: true }));

const BATCH = 2;

/** The last rows of a fixture: packed ones, with labels missing here and there. */
async function rowsOf(dir: string): Promise<Row[]> {
  const { rows } = JSON.parse(await readFile(join(dir, 'reference.json'), 'utf8')) as {
    rows: { packed: { ids: number[]; segments: number[]; labels: number[] }[] };
  };
  return rows.packed.slice(0, BATCH).map(({ ids, segments, labels }) => ({
    ids: Uint32Array.from(ids),
    segments: Uint16Array.from(segments),
    labels: Int32Array.from(labels),
  }));
}

interface StepCase {
  readonly model: Model;
  readonly rows: readonly Row[];
  readonly parametersOf: Parameters<typeof trainingGraph>[1];
  /** Values of what is trained. */
  readonly values: Feeds;
  readonly options?: TrainingGraphOptions;
  readonly supervised?: number;
}

/** How far loss and gradients of one training step are apart on the two executors, and how many there are. */
async function compareStep({ model, rows, parametersOf, values, options, supervised }: StepCase) {
  const { config, architecture } = model;
  const size = { config, architecture, batch: BATCH, length: rows[0]!.ids.length, supervised };
  const { graph } = trainingGraph(size, parametersOf, options);
  const seed: Feeds = graph.inputs.has('seed') ? { seed: BigInt64Array.of(20261125n) } : {};
  const feeds = { ...rowFeeds(rows, size), ...values, ...seed };
  const weights = await prepareWeights(model, folder);
  const [found, expected] = await runOnEach(engines, graph, feeds, weights);
  expect(expected!.loss![0]).toBeGreaterThan(1);
  return { difference: disagreement(found!, expected!), outputs: Object.keys(expected!).length };
}

/** An adapter of random numbers, both factors included, so that all of its gradients are there. */
function adapterCase(model: Model, lora: LoraConfig): Pick<StepCase, 'values' | 'parametersOf'> {
  const values = adapterLayout(model, lora).map(({ name, shape, group }, i) => {
    const random = numbers(elementCount(shape), i + 1).map((value) => value / 4);
    // Magnitudes are lengths.
    return [name, group === 'magnitude' ? random.map((value) => value + 1) : random] as const;
  });
  return {
    values: Object.fromEntries(values),
    parametersOf: (graph) => adaptedParameters(graph, model, lora, { training: true }),
  };
}

describe.each(FAMILIES)('%s: loss and gradients of a training step are those of onnx', (variant) => {
  const dir = join(FIXTURES, variant);

  test('of an adapter', async () => {
    const model = await openModel(dir);
    const { layout, tensors, lora } = await readPeftFolder(join(dir, 'adapter'), model);
    const { difference, outputs } = await compareStep({
      model,
      rows: await rowsOf(dir),
      parametersOf: (graph) => adaptedParameters(graph, model, lora),
      values: Object.fromEntries(layout.map(({ name }, i) => [name, tensors[i]!])),
    });
    expect(outputs).toBe(1 + layout.length);
    expect(difference).toBeLessThan(TOLERANCE);
  });

  test('of all parameters', async () => {
    const model = await openModel(dir);
    const { architecture, config } = model;
    const values: Record<string, Float32Array> = {};
    for (const { name } of architecture.parameters(config)) {
      const { file, entry } = model.tensors.get(name)!;
      values[name] = await readTensor(join(dir, file), entry);
    }
    const { difference } = await compareStep({
      model,
      rows: await rowsOf(dir),
      parametersOf: (graph) => trainableParameters(graph, architecture, config),
      values,
    });
    expect(difference).toBeLessThan(TOLERANCE);
  });
});

describe('what a training may be told', () => {
  const dir = join(FIXTURES, 'families/qwen2');

  test.each<[string, Partial<LoraConfig>, TrainingGraphOptions?]>([
    ['DoRA', { useDora: true }],
    ['dropout', { dropout: 0.3 }],
    ['DoRA with dropout, rank-stabilised', { useDora: true, dropout: 0.1, useRslora: true }],
    ['biases and a whole head', { bias: 'all', modulesToSave: ['lm_head'] }],
    ['label smoothing', {}, { labelSmoothing: 0.1 }],
    ['noise on the embeddings', {}, { neftuneAlpha: 5 }],
  ])('%s', async (_, settings, options) => {
    const model = await openModel(dir);
    const lora = loraConfig({ rank: 3, alpha: 6, ...settings });
    const rows = await rowsOf(dir);
    const { difference } = await compareStep({ model, rows, ...adapterCase(model, lora), options });
    expect(difference).toBeLessThan(TOLERANCE);
  });

  test('logits for supervised tokens only', async () => {
    const model = await openModel(dir);
    const rows = await rowsOf(dir);
    const adapted = adapterCase(model, loraConfig({ rank: 3 }));
    const supervised = rows.reduce((sum, { labels }) => sum + labels.filter((label) => label >= 0).length, 3);
    const { difference } = await compareStep({ model, rows, ...adapted, supervised });
    expect(difference).toBeLessThan(TOLERANCE);
  });
});

describe('a trainer', () => {
  test('after five steps has the adapter of one on onnx, and holds no more after fifty', async () => {
    const deps = await tinyDeps(folder);
    const rows = await tinyRows(deps, 100);
    const settings = tinySettings({ batchSize: 2, seed: 3 });
    const [ours, theirs] = engines.map((engine) => new Trainer(settings, { ...deps, engine }));
    const start = initAdapter(ours!.layout, 7);
    for (const trainer of [ours!, theirs!]) {
      trainer.setParameters(start);
      await trainer.train({ rows: rows.slice(0, 10), steps: 5 });
    }
    const expected = theirs!.parameters();
    for (const [i, values] of ours!.parameters().entries())
      expect(maxDifference(values, expected[i]!), ours!.layout[i]!.name).toBeLessThan(TOLERANCE);

    const held: string[] = [];
    const memory = () => {
      const { numTensors, numBytes, numDataBuffers } = tf.memory();
      return `${numTensors} tensors, ${numDataBuffers} buffers, ${numBytes} bytes`;
    };
    const result = await ours!.train({ rows, steps: 50, onProgress: () => held.push(memory()) });
    expect(result.steps).toBe(50);
    expect(held).toHaveLength(50);
    expect(new Set(held).size).toBe(1);
    await ours!.evaluate(rows.slice(0, 2));
    await Promise.all([ours!.dispose(), theirs!.dispose()]);
    expect(tf.memory().numTensors).toBe(0);
  });
});
