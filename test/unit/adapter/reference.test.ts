import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Adapter, readPeftFolder } from '../../../lora/adapter/peft.ts';
import type { Row } from '../../../lora/data/packing.ts';
import { createEngine, type Engine } from '../../../lora/engines/engine.ts';
import { Graph } from '../../../lora/graph/graph.ts';
import { type Model, openModel, prepareWeights } from '../../../lora/models/model.ts';
import { readHeader, readTensor } from '../../../lora/models/safetensors.ts';
import { sequenceFeeds, sequenceInputs } from '../../../lora/models/sequences.ts';
import { AdamW } from '../../../lora/train/adamw.ts';
import { adaptedParameters } from '../../../lora/train/adapted.ts';
import { lossAndGradients, trainingGraph } from '../../../lora/train/step.ts';
import { FIXTURES, maxDifference } from '../../utils/reference.ts';

/** Largest difference from PEFT's results in float32. */
const TOLERANCE = 1e-4;

/** What scripts/reference/make_adapters.py stored. */
interface Case {
  model: Model;
  adapter: Adapter;
  rows: Row[];
  seeds: number[];
  losses: number[];
  settings: {
    lr: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    clipNorm: number;
    batch: number;
    length: number;
  };
  tensor(name: string): Promise<Float32Array>;
}

async function openCase(name: string): Promise<Case> {
  const dir = join(FIXTURES, 'adapters', name);
  const json = JSON.parse(await readFile(join(dir, 'reference.json'), 'utf8'));
  const model = await openModel(join(FIXTURES, json.model));
  const path = join(dir, 'reference.safetensors');
  const { entries } = await readHeader(path);
  const rows = (json.rows as { ids: number[]; labels: number[] }[]).map(({ ids, labels }) => ({
    ids: Uint32Array.from(ids),
    segments: new Uint16Array(ids.length).fill(1),
    labels: Int32Array.from(labels),
  }));
  const adapter = await readPeftFolder(dir, model);
  return { ...json, model, adapter, rows, tensor: (tensor) => readTensor(path, entries.get(tensor)!) };
}

let engine: Engine;
let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'adapter-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

async function logitsOf(model: Model, rows: readonly Row[], adapter: Adapter | null): Promise<Float32Array> {
  const graph = new Graph();
  const length = rows[0]!.ids.length;
  const source = adaptedParameters(graph, model, adapter?.lora ?? null);
  const inputs = sequenceInputs(graph, rows.length, length);
  graph.output('logits', model.architecture.forward(graph, model.config, inputs, source));
  const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
  const values = adapter?.layout.map(({ name }, i) => [name, adapter.tensors[i]!] as const) ?? [];
  const { logits } = await executable.run({ ...sequenceFeeds(rows, length), ...Object.fromEntries(values) });
  await executable.dispose();
  return logits!;
}

describe.each(readdirSync(join(FIXTURES, 'adapters')))('%s, written and trained by PEFT', (name) => {
  test('gives the same logits here', async () => {
    const { model, adapter, rows, tensor } = await openCase(name);
    const ours = await logitsOf(model, rows, adapter);
    expect(maxDifference(ours, await tensor('logits'))).toBeLessThan(TOLERANCE);
    expect(maxDifference(ours, await logitsOf(model, rows, null))).toBeGreaterThan(10 * TOLERANCE);
  });

  test('has the same gradients, and the same values after three steps of AdamW', async () => {
    const { model, adapter, rows, seeds, losses, settings, tensor } = await openCase(name);
    const { config, architecture } = model;
    const { batch, length } = settings;
    const { graph, parameters } = trainingGraph({ config, architecture, batch, length }, (graph) =>
      adaptedParameters(graph, model, adapter.lora, { training: true }),
    );
    expect(new Set(parameters.map(({ name }) => name))).toEqual(
      new Set(adapter.layout.map(({ name }) => name)),
    );
    const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
    const values = adapter.tensors.map((tensor) => tensor.slice());
    const sums = values.map(({ length }) => new Float32Array(length));
    const named = new Map(adapter.layout.map(({ name }, i) => [name, values[i]!]));
    const optimizer = new AdamW({
      tensors: values.map(({ length }) => ({ size: length, decay: true })),
      betas: settings.betas,
      epsilon: settings.eps,
      weightDecay: settings.weight_decay,
    });
    const random = graph.inputs.has('seed');
    expect(random).toBe(adapter.lora.dropout > 0);
    for (const [step, seed] of seeds.entries()) {
      const randomness = () => (random ? { seed: BigInt64Array.of(BigInt(seed)) } : {});
      const { lossSum, tokens } = await lossAndGradients(executable, rows, named, sums, {
        batch,
        length,
        randomness,
        pause: async () => {},
      });
      expect(Math.abs(lossSum / tokens - losses[step]!), `loss of step ${step}`).toBeLessThan(TOLERANCE);
      for (const [i, { name }] of adapter.layout.entries()) {
        if (step > 0) break;
        const ours = sums[i]!.map((sum) => sum / tokens);
        expect(maxDifference(ours, await tensor(`gradients.${name}`)), name).toBeLessThan(TOLERANCE);
      }
      optimizer.step(values, sums, {
        learningRate: settings.lr,
        gradientScale: 1 / tokens,
        clipNorm: settings.clipNorm,
      });
    }
    await executable.dispose();
    for (const [i, { name }] of adapter.layout.entries()) {
      const theirs = await tensor(`trained.${name}`);
      expect(maxDifference(values[i]!, theirs), name).toBeLessThan(TOLERANCE);
      expect(maxDifference(values[i]!, adapter.tensors[i]!), `${name} was trained`).toBeGreaterThan(
        TOLERANCE,
      );
    }
  });
});
