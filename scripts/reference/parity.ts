/**
 * Measures the differences between this engine and transformers + PEFT on a reference model, for tests and for
 * parity-table.ts.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../lora/adapter/peft.ts';
import type { Engine } from '../../lora/engines/engine.ts';
import { gradients } from '../../lora/graph/gradients.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { crossEntropy, reduceSum } from '../../lora/graph/ops.ts';
import type { TrainableSource } from '../../lora/models/architecture.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { readHeader, readTensor } from '../../lora/models/weights/safetensors.ts';
import { adaptedParameters } from '../../lora/train/adapted-model.ts';
import { AdamW } from '../../lora/train/optimizer/adamw.ts';
import type { ReferenceSettings } from '../../test/utils/models/reference.ts';
import { trainableParameters } from '../pretrain/trainable-parameters.ts';

interface ReferenceRow {
  readonly ids: number[];
  /** Segment numbers; 0 for padding. */
  readonly segments: number[];
  /** Labels, already shifted by one token; −100 for tokens that are not supervised. */
  readonly labels: number[];
}

/** Reference values that make_families.py or make_llama_tiny.py wrote into the folder of a model. */
interface ReferenceFile {
  readonly rows: Readonly<Record<string, ReferenceRow[]>>;
  /** Losses, each before an optimiser step. */
  readonly losses: Readonly<Record<string, number[]>>;
  readonly settings: ReferenceSettings & { readonly steps: number };
}

interface Reference extends ReferenceFile {
  readonly dir: string;
  readonly model: BaseModel;
  readonly adapter: Adapter;
  has(tensor: string): boolean;
  tensor(name: string): Promise<Float32Array>;
}

/** Largest differences from the reference over all tensors. `relative` is relative to a tensor's largest reference value. */
export interface Difference {
  absolute: number;
  relative: number;
  /** Number of tensors or losses compared. */
  compared: number;
}

export const QUANTITIES = ['logits', 'loss', 'gradients', 'trained', 'full'] as const;
/** `trained`: the adapter after three AdamW steps. `full`: the gradients of all parameters of the base. */
export type Parity = Record<(typeof QUANTITIES)[number], Difference>;

/**
 * Compares what our engine computes for one reference model with the reference values.
 * @param dir a folder of test/fixtures with a model, an adapter and their reference values
 */
export async function measureParity(dir: string, engine: Engine, cacheDir: string): Promise<Parity> {
  const reference = await openReference(dir);
  const parity = Object.fromEntries(
    QUANTITIES.map((name) => [name, { absolute: 0, relative: 0, compared: 0 }]),
  ) as Parity;
  for (const name of Object.keys(reference.rows))
    await compareAdapted(parity, reference, name, engine, cacheDir);
  await compareFull(parity, reference, engine);
  return parity;
}

async function openReference(dir: string): Promise<Reference> {
  const model = await openBase(dir);
  const adapter = await readPeftFolder(join(dir, 'adapter'), model);
  const path = join(dir, 'reference.safetensors');
  const { entries } = await readHeader(path);
  const json = JSON.parse(await readFile(join(dir, 'reference.json'), 'utf8')) as ReferenceFile;
  const tensor = (name: string) => readTensor(path, entries.get(name)!);
  return { dir, model, adapter, ...json, has: (name) => entries.has(name), tensor };
}

async function compareAdapted(
  parity: Parity,
  reference: Reference,
  name: string,
  engine: Engine,
  cacheDir: string,
): Promise<void> {
  const { model, adapter, settings } = reference;
  const rows = reference.rows[name]!;
  const graph = trainingGraph(reference, (g) => adaptedParameters(g, model, adapter.lora));
  const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
  const values = adapter.tensors.map((tensor) => tensor.slice());
  const { feeds, tokens } = feedsOf(rows, settings.length);
  const optimizer = new AdamW({
    tensors: values.map(({ length }) => ({ size: length, decay: true })),
    betas: settings.betas,
    epsilon: settings.eps,
    weightDecay: settings.weight_decay,
  });
  for (let step = 0; step < settings.steps; step++) {
    const named = adapter.layout.map((tensor, i) => [tensor.name, values[i]!] as const);
    const outputs = await executable.run({ ...feeds, ...Object.fromEntries(named) });
    include(parity.loss, [outputs.loss![0]! / tokens], [reference.losses[name]![step]!]);
    const found = adapter.layout.map((tensor) => outputs[`gradient/${tensor.name}`]!);
    if (step === 0) {
      const theirs = await reference.tensor(`${name}.logits`);
      const real = rows.flatMap(({ segments }) => segments.map((segment) => segment !== 0));
      include(parity.logits, realRows(outputs.logits!, real), realRows(theirs, real));
      for (const [i, tensor] of adapter.layout.entries()) {
        const mean = found[i]!.map((value) => value / tokens);
        include(parity.gradients, mean, await reference.tensor(`${name}.gradients.${tensor.name}`));
      }
    }
    const { lr: learningRate, clipNorm } = settings;
    optimizer.step(values, found, { learningRate, gradientScale: 1 / tokens, clipNorm });
  }
  await executable.dispose();
  for (const [i, tensor] of adapter.layout.entries())
    include(parity.trained, values[i]!, await reference.tensor(`${name}.trained.${tensor.name}`));
}

async function compareFull(parity: Parity, reference: Reference, engine: Engine): Promise<void> {
  const { model, settings } = reference;
  const [prefix, rows] = reference.rows.padded
    ? ['full', reference.rows.padded]
    : ['plain.full', reference.rows.plain!];
  const names = model.architecture.parameters(model.config).map((parameter) => parameter.name);
  if (!names.every((name) => reference.has(`${prefix}.${name}`))) return;
  const graph = trainingGraph(reference, (g) => trainableParameters(g, model.architecture, model.config));
  const executable = await engine.compile(graph, null);
  const { feeds, tokens } = feedsOf(rows, settings.length);
  const values: Record<string, Float32Array> = {};
  for (const name of names) {
    const { file, entry } = model.tensors.get(name)!;
    values[name] = await readTensor(join(reference.dir, file), entry);
  }
  const outputs = await executable.run({ ...feeds, ...values });
  await executable.dispose();
  for (const name of names) {
    const mean = outputs[`gradient/${name}`]!.map((value) => value / tokens);
    include(parity.full, mean, await reference.tensor(`${prefix}.${name}`));
  }
}

/** Returns a graph with the outputs `logits`, `loss` (summed), and `gradient/<name>` for every trainable tensor. */
function trainingGraph(reference: Reference, parametersOf: (graph: Graph) => TrainableSource): Graph {
  const { model, settings } = reference;
  const graph = new Graph();
  const source = parametersOf(graph);
  const inputs = sequenceInputs(graph, settings.batch, settings.length);
  const logits = model.architecture.forward(graph, model.config, inputs, source);
  const labels = graph.input('labels', [settings.batch * settings.length], 'int64');
  const loss = reduceSum(crossEntropy(logits, labels));
  graph.output('logits', logits);
  graph.output('loss', loss);
  const found = gradients(loss, [...source.trainable.values()]);
  for (const [i, name] of [...source.trainable.keys()].entries()) graph.output(`gradient/${name}`, found[i]!);
  return graph;
}

function feedsOf(rows: readonly ReferenceRow[], length: number) {
  const labels = rows.flatMap((row) => row.labels);
  const tokens = labels.filter((label) => label !== -100).length;
  return { tokens, feeds: { ...sequenceFeeds(rows, length), labels: BigInt64Array.from(labels, BigInt) } };
}

/** Returns the logits of all tokens except padding, for which the values do not matter. */
function realRows(logits: Float32Array, real: readonly boolean[]): Float32Array {
  const width = logits.length / real.length;
  return logits.filter((_, i) => real[Math.floor(i / width)]!);
}

function include(total: Difference, ours: ArrayLike<number>, theirs: ArrayLike<number>): void {
  let difference = ours.length === theirs.length ? 0 : Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < theirs.length; i++) {
    const one = Math.abs(ours[i]! - theirs[i]!);
    // NaN counts as an infinite difference.
    if (!(one <= difference)) difference = Number.isNaN(one) ? Number.POSITIVE_INFINITY : one;
    largest = Math.max(largest, Math.abs(theirs[i]!));
  }
  total.absolute = Math.max(total.absolute, difference);
  total.relative = Math.max(total.relative, difference === 0 ? 0 : difference / largest);
  total.compared++;
}
