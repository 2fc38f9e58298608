/**
 * Measures the differences between lora-swarm and PEFT on an adapter that make_adapters.py wrote. Tests and
 * adapter-table.ts use the results.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../lora/adapter/peft.ts';
import type { Row } from '../../lora/data/row.ts';
import type { Engine } from '../../lora/engines/engine.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { readHeader, readTensor } from '../../lora/models/weights/safetensors.ts';
import { adaptedParameters } from '../../lora/train/adapted-model.ts';
import { AdamW } from '../../lora/train/optimizer/adamw.ts';
import { lossAndGradients, trainingGraph } from '../../lora/train/step.ts';
import type { ReferenceSettings } from '../../test/utils/models/reference.ts';

export const FIXTURES = join(import.meta.dirname, '../../test/fixtures');

/** Reference values of one adapter, written by make_adapters.py. */
export interface AdapterCase {
  dir: string;
  model: BaseModel;
  adapter: Adapter;
  rows: Row[];
  /** Seeds of the dropout masks, one for each step. */
  seeds: number[];
  losses: number[];
  settings: ReferenceSettings;
  tensor(name: string): Promise<Float32Array>;
}

export async function openAdapterCase(name: string): Promise<AdapterCase> {
  const dir = join(FIXTURES, 'adapters', name);
  const json = JSON.parse(await readFile(join(dir, 'reference.json'), 'utf8'));
  const model = await openBase(join(FIXTURES, json.model));
  const path = join(dir, 'reference.safetensors');
  const { entries } = await readHeader(path);
  const rows = (json.rows as { ids: number[]; labels: number[] }[]).map(({ ids, labels }) => ({
    ids: Uint32Array.from(ids),
    segments: new Uint16Array(ids.length).fill(1),
    labels: Int32Array.from(labels),
  }));
  const adapter = await readPeftFolder(dir, model);
  return { ...json, dir, model, adapter, rows, tensor: (tensor) => readTensor(path, entries.get(tensor)!) };
}

/** Computes the logits [B·T, V] of rows with an adapter, or of the base alone. */
export async function logitsOf(
  {
    model,
    rows,
    engine,
    cacheDir,
  }: { model: BaseModel; rows: readonly Row[]; engine: Engine; cacheDir: string },
  adapter: Pick<Adapter, 'lora' | 'layout' | 'tensors'> | null,
): Promise<Float32Array> {
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

/** Largest absolute differences from PEFT. */
export interface AdapterParity {
  logits: number;
  /** Largest difference of a loss from PEFT's loss. Each loss is computed before an optimiser step. */
  losses: number;
  /** Largest difference of the first step's gradient from PEFT's, by tensor. */
  gradients: Map<string, number>;
  /** Largest difference of the trained values from PEFT's, by tensor. */
  trained: Map<string, number>;
  /** Largest change of a value from before to after our training, by tensor. It shows that the tensor was trained. */
  moved: Map<string, number>;
}

export async function measureAdapter(
  { model, adapter, rows, seeds, losses, settings, tensor }: AdapterCase,
  { engine, cacheDir }: { engine: Engine; cacheDir: string },
): Promise<AdapterParity> {
  const { config, architecture } = model;
  const { batch, length } = settings;
  const logits = await logitsOf({ model, rows, engine, cacheDir }, adapter);
  const { graph, parameters } = trainingGraph({ config, architecture, batch, length }, (graph) =>
    adaptedParameters(graph, model, adapter.lora, { training: true }),
  );
  const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
  const starts = new Map(adapter.layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
  const named = new Map(parameters.map(({ name }) => [name, starts.get(name)!.slice()]));
  const values = [...named.values()];
  const sums = values.map((tensor) => new Float32Array(tensor.length));
  const optimizer = new AdamW({
    tensors: values.map((tensor) => ({ size: tensor.length, decay: true })),
    betas: settings.betas,
    epsilon: settings.eps,
    weightDecay: settings.weight_decay,
  });
  const parity: AdapterParity = {
    logits: maxDifference(logits, await tensor('logits')),
    losses: 0,
    gradients: new Map(),
    trained: new Map(),
    moved: new Map(),
  };
  for (const [step, seed] of seeds.entries()) {
    const fed = { seed: BigInt64Array.of(BigInt(seed)) };
    const { lossSum, tokens } = await lossAndGradients(executable, rows, named, sums, {
      batch,
      length,
      pause: async () => {},
      ...(graph.inputs.has('seed') ? { randomness: () => fed } : {}),
    });
    parity.losses = Math.max(parity.losses, Math.abs(lossSum / tokens - losses[step]!));
    for (const [i, name] of [...named.keys()].entries()) {
      if (step > 0) break;
      const mean = sums[i]!.map((sum) => sum / tokens);
      parity.gradients.set(name, maxDifference(mean, await tensor(`gradients.${name}`)));
    }
    optimizer.step(values, sums, {
      learningRate: settings.lr,
      gradientScale: 1 / tokens,
      clipNorm: settings.clipNorm,
    });
  }
  await executable.dispose();
  for (const [name, value] of named) {
    parity.trained.set(name, maxDifference(value, await tensor(`trained.${name}`)));
    parity.moved.set(name, maxDifference(value, starts.get(name)!));
  }
  return parity;
}

/** Returns the largest |a − b|; infinity if the lengths differ. */
function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}
