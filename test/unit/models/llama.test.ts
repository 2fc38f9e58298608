import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../../lora/engines/engine.ts';
import { gradients } from '../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../lora/graph/graph.ts';
import { crossEntropy, reduceSum } from '../../../lora/graph/ops.ts';
import type { ParameterSource, TrainableSource } from '../../../lora/models/architecture.ts';
import { prepareWeights } from '../../../lora/models/model.ts';
import { frozenParameters, trainableParameters } from '../../../lora/models/parameters.ts';
import { readTensor } from '../../../lora/models/safetensors.ts';
import { sequenceFeeds, sequenceInputs } from '../../../lora/models/sequences.ts';
import { adaptedParameters } from '../../../lora/train/adapted.ts';
import { maxDifference, openReference, type Reference, type ReferenceRow } from '../../utils/reference.ts';

/** Largest difference from transformers + PEFT in float32, for values of the order of 1. */
const TOLERANCE = 1e-4;

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'llama-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

function build(graph: Graph, reference: Reference, source: ParameterSource) {
  const { model, settings } = reference;
  const inputs = sequenceInputs(graph, settings.batch, settings.length);
  const logits = model.architecture.forward(graph, model.config, inputs, source);
  const labels = graph.input('labels', [settings.batch * settings.length], 'int64');
  return { logits, loss: reduceSum(crossEntropy(logits, labels), null) };
}

function outputGradients(graph: Graph, loss: Tensor, { trainable }: TrainableSource) {
  const found = gradients(loss, [...trainable.values()]);
  for (const [i, name] of [...trainable.keys()].entries()) graph.output(`gradient/${name}`, found[i]!);
}

function feedsOf(rows: readonly ReferenceRow[], length: number) {
  const labels = rows.flatMap((row) => row.labels);
  const tokens = labels.filter((label) => label !== -100).length;
  return { tokens, feeds: { ...sequenceFeeds(rows, length), labels: BigInt64Array.from(labels, BigInt) } };
}

describe.each(['tied', 'untied'] as const)('Llama with a LoRA adapter, %s output head', (variant) => {
  test.each(['plain', 'packed'] as const)('logits, loss and gradients of %s rows', async (name) => {
    const reference = await openReference(variant);
    const { model, adapter, settings } = reference;
    const graph = new Graph();
    const source = adaptedParameters(graph, model, adapter.lora);
    const { logits, loss } = build(graph, reference, source);
    graph.output('logits', logits);
    graph.output('loss', loss);
    outputGradients(graph, loss, source);
    const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
    const { feeds, tokens } = feedsOf(reference.rows[name], settings.length);
    const values = Object.fromEntries(adapter.layout.map((tensor, i) => [tensor.name, adapter.tensors[i]!]));
    const outputs = await executable.run({ ...feeds, ...values });
    await executable.dispose();

    expect(maxDifference(outputs.logits!, await reference.tensor(`${name}.logits`))).toBeLessThan(TOLERANCE);
    expect(Math.abs(outputs.loss![0]! / tokens - reference.losses[name][0]!)).toBeLessThan(TOLERANCE);
    expect(adapter.layout.length).toBe(source.trainable.size);
    for (const tensor of adapter.layout) {
      const ours = outputs[`gradient/${tensor.name}`]!.map((value) => value / tokens);
      const theirs = await reference.tensor(`${name}.gradients.${tensor.name}`);
      expect(theirs.some((value) => value !== 0)).toBe(true);
      expect(maxDifference(ours, theirs), tensor.name).toBeLessThan(TOLERANCE);
    }
  });
});

test('gradients of all parameters without an adapter, the tied embedding from both its uses', async () => {
  const reference = await openReference('tied');
  const { model, settings } = reference;
  const graph = new Graph();
  const source = trainableParameters(graph, model.architecture, model.config);
  const { loss } = build(graph, reference, source);
  outputGradients(graph, loss, source);
  const executable = await engine.compile(graph, null);
  const { feeds, tokens } = feedsOf(reference.rows.plain, settings.length);
  const values: Record<string, Float32Array> = {};
  for (const name of source.trainable.keys()) {
    const { file, entry } = model.tensors.get(name)!;
    values[name] = await readTensor(join(reference.dir, file), entry);
  }
  const outputs = await executable.run({ ...feeds, ...values });
  await executable.dispose();
  for (const name of source.trainable.keys()) {
    const ours = outputs[`gradient/${name}`]!.map((value) => value / tokens);
    expect(maxDifference(ours, await reference.tensor(`plain.full.${name}`)), name).toBeLessThan(TOLERANCE);
  }
});

test('rows longer than the model has positions are refused', async () => {
  const { model } = await openReference('tied');
  const graph = new Graph();
  const source = frozenParameters(graph, model.architecture, model.config);
  const inputs = sequenceInputs(graph, 1, model.config.maxPositions + 1);
  expect(() => model.architecture.forward(graph, model.config, inputs, source)).toThrow(
    expect.objectContaining({ code: 'MODEL_SEQUENCE_TOO_LONG' }),
  );
});
