/** Training steps of the reference models, for tests that compare engines or passes. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { adapterLayout } from '../../../lora/adapter/layout.ts';
import type { LoraConfig } from '../../../lora/adapter/lora-config.ts';
import type { Row } from '../../../lora/data/row.ts';
import type { Engine, Feeds } from '../../../lora/engines/engine.ts';
import { elementCount } from '../../../lora/graph/shapes.ts';
import type { BaseBits } from '../../../lora/models/base/base-bits.ts';
import type { BaseModel } from '../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../lora/models/weights/prepare-weights.ts';
import { readTensor } from '../../../lora/models/weights/safetensors.ts';
import { adaptedParameters } from '../../../lora/train/adapted-model.ts';
import { rowFeeds, type TrainingGraphOptions, trainingGraph } from '../../../lora/train/step.ts';
import { trainableParameters } from '../../../scripts/pretrain/trainable-parameters.ts';
import { disagreement, runOnEach } from './executors.ts';
import { openFamily } from './families.ts';
import { numbers } from './graphs.ts';
import { FIXTURES } from './reference.ts';

const BATCH = 2;

/** Returns the packed rows of a fixture, in which some labels are missing. */
export async function fixtureRows(fixture: string): Promise<Row[]> {
  const { rows } = JSON.parse(await readFile(join(FIXTURES, fixture, 'reference.json'), 'utf8')) as {
    rows: { packed: { ids: number[]; segments: number[]; labels: number[] }[] };
  };
  return rows.packed.slice(0, BATCH).map(({ ids, segments, labels }) => ({
    ids: Uint32Array.from(ids),
    segments: Uint16Array.from(segments),
    labels: Int32Array.from(labels),
  }));
}

export interface StepCase {
  readonly model: BaseModel;
  readonly rows: readonly Row[];
  readonly parametersOf: Parameters<typeof trainingGraph>[1];
  /** Values of the trained tensors. */
  readonly values: Feeds;
  readonly options?: TrainingGraphOptions;
  readonly supervised?: number;
}

/** Returns the graph of a step, with a value for each of its inputs. */
export function stepOf({ model, rows, parametersOf, values, options, supervised }: StepCase) {
  const { config, architecture } = model;
  const size = { config, architecture, batch: BATCH, length: rows[0]!.ids.length, supervised };
  const { graph } = trainingGraph(size, parametersOf, options);
  const seed: Feeds = graph.inputs.has('seed') ? { seed: BigInt64Array.of(20261125n) } : {};
  return { graph, feeds: { ...rowFeeds(rows, size), ...values, ...seed } };
}

/** Returns the difference of loss and gradients of a step on two engines, and the number of outputs. */
export async function compareStep(
  engines: readonly Engine[],
  step: StepCase,
  cacheDir: string,
  { bits }: { bits?: BaseBits } = {},
) {
  const { graph, feeds } = stepOf(step);
  const weights = await prepareWeights(step.model, cacheDir, { bits });
  const [found, expected] = await runOnEach(engines, graph, feeds, weights);
  expect(expected!.loss![0]).toBeGreaterThan(1);
  return { difference: disagreement(found!, expected!), outputs: Object.keys(expected!).length };
}

/** Returns a step of the fixture's own adapter. */
export async function fixtureStep(fixture: string): Promise<StepCase> {
  const { model, adapter } = await openFamily(fixture);
  const { layout, tensors, lora } = adapter;
  return {
    model,
    rows: await fixtureRows(fixture),
    parametersOf: (graph) => adaptedParameters(graph, model, lora),
    values: Object.fromEntries(layout.map(({ name }, i) => [name, tensors[i]!])),
  };
}

/** Returns a step of all parameters of the fixture's model. */
export async function fullStep(fixture: string): Promise<StepCase> {
  const { model } = await openFamily(fixture);
  const { architecture, config } = model;
  const values: Record<string, Float32Array> = {};
  for (const { name } of architecture.parameters(config)) {
    const { file, entry } = model.tensors.get(name)!;
    values[name] = await readTensor(join(FIXTURES, fixture, file), entry);
  }
  const parametersOf: StepCase['parametersOf'] = (graph) => trainableParameters(graph, architecture, config);
  return { model, rows: await fixtureRows(fixture), parametersOf, values };
}

/** Returns an adapter of random numbers. A and B are both random, so that no gradient is zero. */
export function randomAdapter(model: BaseModel, lora: LoraConfig): Pick<StepCase, 'values' | 'parametersOf'> {
  const values = adapterLayout(model, lora).map(({ name, shape, group }, i) => {
    const random = numbers(elementCount(shape), i + 1).map((value) => value / 4);
    // Magnitudes are lengths, so they are positive.
    return [name, group === 'magnitude' ? random.map((value) => value + 1) : random] as const;
  });
  return {
    values: Object.fromEntries(values),
    parametersOf: (graph) => adaptedParameters(graph, model, lora, { training: true }),
  };
}

/** Options of training that change the graph. */
export const VARIANTS: readonly [string, Partial<LoraConfig>, TrainingGraphOptions?][] = [
  ['DoRA', { useDora: true }],
  ['dropout', { dropout: 0.3 }],
  ['DoRA with dropout, rank-stabilised', { useDora: true, dropout: 0.1, useRslora: true }],
  ['biases and a whole head', { bias: 'all', modulesToSave: ['lm_head'] }],
  ['label smoothing', {}, { labelSmoothing: 0.1 }],
  ['noise on the embeddings', {}, { neftuneAlpha: 5 }],
];
