/**
 * Writes what check_peft.py compares with PEFT: an adapter folder, the model with it merged in, and the logits
 * that this engine computes with either.
 *
 * Usage: node scripts/reference/write-adapter.ts MODEL_DIR OUTPUT_DIR [TARGETS]
 * MODEL_DIR is one of test/fixtures/llama-tiny-*, TARGETS a pattern of module names (default 'all-linear').
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { mergeAdapter } from '../../lora/adapter/merge.ts';
import {
  type Adapter,
  adapterLayout,
  initAdapter,
  loraConfig,
  readPeftFolder,
  writePeftFolder,
} from '../../lora/adapter/peft.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { describeBase, type Model, openModel, prepareWeights } from '../../lora/models/model.ts';
import { writeSafetensors } from '../../lora/models/safetensors.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { adaptedParameters } from '../../lora/train/adapted.ts';

const [modelDir, outDir, targets = 'all-linear'] = process.argv.slice(2);
if (!modelDir || !outDir) throw new Error('usage: write-adapter.ts MODEL_DIR OUTPUT_DIR [TARGETS]');

const LENGTH = 24;
const lora = loraConfig({ rank: 4, alpha: 10, targets });
const model = await openModel(modelDir);
await rm(outDir, { recursive: true, force: true });
await mkdir(outDir, { recursive: true });

const layout = adapterLayout(model, lora);
// Zero B would make the adapter a no-op: take other random values for it.
const tensors = initAdapter(layout, 1).map((values, i) =>
  values.map((value, j) => (layout[i]!.name.includes('lora_B') ? Math.sin(i + j) / 5 : value)),
);
const { digest: baseDigest } = await describeBase(modelDir);
const adapterDir = join(outDir, 'adapter');
await writePeftFolder(adapterDir, { layout, tensors, lora, baseModelName: modelDir, baseDigest });
const adapter = await readPeftFolder(adapterDir, model);
const mergedDir = join(outDir, 'merged');
await mergeAdapter(model, adapter, mergedDir);

const ids = Array.from({ length: LENGTH }, (_, t) => (t * 37 + 5) % model.config.vocabularySize);
const shape = [LENGTH, model.config.vocabularySize];
await writeSafetensors(join(outDir, 'logits.safetensors'), [
  { name: 'ids', dtype: 'F32', shape: [LENGTH], data: Float32Array.from(ids) },
  { name: 'adapter', dtype: 'F32', shape, data: await logits(model, adapter) },
  { name: 'merged', dtype: 'F32', shape, data: await logits(await openModel(mergedDir), null) },
]);

async function logits(model: Model, adapter: Adapter | null): Promise<Float32Array> {
  const { architecture, config } = model;
  const graph = new Graph();
  const source = adaptedParameters(graph, model, adapter?.lora ?? null);
  graph.output('logits', architecture.forward(graph, config, sequenceInputs(graph, 1, LENGTH), source));
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const executable = await engine.compile(graph, await prepareWeights(model, join(outDir!, 'cache')));
  const values = adapter?.layout.map(({ name }, i) => [name, adapter.tensors[i]!] as const) ?? [];
  const feeds = sequenceFeeds([{ ids, segments: ids.map(() => 1) }], LENGTH);
  const outputs = await executable.run({ ...feeds, ...Object.fromEntries(values) });
  await executable.dispose();
  return outputs.logits!;
}
