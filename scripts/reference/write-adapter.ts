/**
 * Writes the input of check_peft.py: adapters with the settings in SHAPES, the merged model of each adapter, and the
 * logits that our engine computes with the adapter and with the merged model.
 *
 * Usage: node scripts/reference/write-adapter.ts MODEL_DIR OUTPUT_DIR [SETTINGS]
 * MODEL_DIR is a model of test/fixtures. SETTINGS is the `lora` part of a job as JSON. Without SETTINGS, the
 * script writes an adapter for each entry of SHAPES. OUTPUT_DIR/SHAPE holds adapter/ and logits.safetensors, and also
 * merged/ unless the adapter changes a tied output head.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { adapterLayout } from '../../lora/adapter/layout.ts';
import { type LoraConfig, loraConfig } from '../../lora/adapter/lora-config.ts';
import { mergeIntoBase } from '../../lora/adapter/merge-into-base.ts';
import { type Adapter, readPeftFolder, writePeftFolder } from '../../lora/adapter/peft.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { describeBase } from '../../lora/models/base/base-identity.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import { adaptedParameters } from '../../lora/train/adapted-model.ts';

const LENGTH = 24;

const SHAPES: Record<string, Partial<LoraConfig>> = {
  plain: {},
  dora: { useDora: true },
  rslora: { useRslora: true, rank: 9, dropout: 0.2 },
  pattern: {
    targets: '.*(q_proj|v_proj|c_attn|down_proj)',
    excludeModules: '.*0.*(v_proj|down_proj|c_attn)',
  },
  patterns: {
    useRslora: true,
    useDora: true,
    rankPattern: [
      ['.*1\\..*(q_proj|c_attn)', 2],
      ['q_proj|c_attn|mlp\\..*', 5],
    ],
    alphaPattern: [
      ['mlp.*', 3],
      ['[a-z]_proj', 7],
    ],
  },
  layers: { layersToTransform: [1] },
  'head-dora': { targets: ['lm_head', 'q_proj', 'c_attn'], useDora: true },
  saved: { modulesToSave: ['lm_head', 'norm', 'ln_f'], targets: ['v_proj', 'c_fc'], freezeA: true },
  'saved-embedding': { modulesToSave: ['embed_tokens', 'wte'], targets: ['v_proj', 'c_fc'] },
  'saved-block': { modulesToSave: ['layers.0.mlp', 'h.0.mlp'], useDora: true },
  'bias-lora': { bias: 'lora_only', targets: ['q_proj', 'o_proj', 'c_attn'], useDora: true },
  'bias-all': { bias: 'all', targets: ['q_proj', 'c_proj'] },
  gaussian: { initLoraWeights: 'gaussian' },
  embedding: { targets: ['embed_tokens', 'wte', 'q_proj', 'c_attn'], dropout: 0.1 },
};

const [modelDir, outDir, settings] = process.argv.slice(2);
if (!modelDir || !outDir) throw new Error('usage: write-adapter.ts MODEL_DIR OUTPUT_DIR [SETTINGS]');

const model = await openBase(modelDir);
const { digest: baseDigest } = await describeBase(modelDir);
const ids = Array.from({ length: LENGTH }, (_, t) => (t * 37 + 5) % model.config.vocabularySize);
await rm(outDir, { recursive: true, force: true });
const shapes = settings === undefined ? SHAPES : { given: JSON.parse(settings) as Partial<LoraConfig> };
for (const [name, shape] of Object.entries(shapes)) await write(join(outDir, name), fitting(shape));

/** Makes the settings of an adapter from a shape. Leaves out the module names that this model does not have. */
function fitting(shape: Partial<LoraConfig>): LoraConfig {
  const names = model.architecture.parameters(model.config).map((parameter) => parameter.name);
  const known = (list: readonly string[]) =>
    list.filter((entry) => `${entry}.` === 'lm_head.' || names.some((name) => name.includes(`${entry}.`)));
  const { targets = 'all-linear', modulesToSave = [] } = shape;
  return loraConfig({
    rank: 4,
    alpha: 10,
    ...shape,
    targets: typeof targets === 'string' ? targets : known(targets),
    modulesToSave: known(modulesToSave),
  });
}

async function write(dir: string, lora: LoraConfig): Promise<void> {
  await mkdir(dir, { recursive: true });
  const layout = adapterLayout(model, lora);
  // An initial adapter does not change the model's logits, so change all its values.
  const tensors = (await initialAdapter(model, lora, 1)).map((values, i) =>
    values.map(
      (value, j) =>
        value * (1 + Math.cos(i + j) / 10) + Math.sin(i + j) / (layout[i]!.group === 'B' ? 5 : 50),
    ),
  );
  const adapterDir = join(dir, 'adapter');
  await writePeftFolder(adapterDir, { layout, tensors, lora, baseModelName: modelDir!, baseDigest });
  const adapter = await readPeftFolder(adapterDir, model);
  const shape = [LENGTH, model.config.vocabularySize];
  const results = [
    { name: 'ids', dtype: 'F32' as const, shape: [LENGTH], data: Float32Array.from(ids) },
    { name: 'adapter', dtype: 'F32' as const, shape, data: await logits(model, adapter) },
  ];
  const mergedDir = join(dir, 'merged');
  try {
    await mergeIntoBase(model, adapter, mergedDir);
    const data = await logits(await openBase(mergedDir), null);
    results.push({ name: 'merged', dtype: 'F32', shape, data });
  } catch (error) {
    if (!isSwarmError(error, 'ADAPTER_TIED_HEAD')) throw error;
  }
  await writeSafetensors(join(dir, 'logits.safetensors'), results);
}

async function logits(of: BaseModel, adapter: Adapter | null): Promise<Float32Array> {
  const { architecture, config } = of;
  const graph = new Graph();
  const source = adaptedParameters(graph, of, adapter?.lora ?? null);
  graph.output('logits', architecture.forward(graph, config, sequenceInputs(graph, 1, LENGTH), source));
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const executable = await engine.compile(graph, await prepareWeights(of, join(outDir!, '.cache')));
  const values = adapter?.layout.map(({ name }, i) => [name, adapter.tensors[i]!] as const) ?? [];
  const feeds = sequenceFeeds([{ ids, segments: ids.map(() => 1) }], LENGTH);
  const outputs = await executable.run({ ...feeds, ...Object.fromEntries(values) });
  await executable.dispose();
  return outputs.logits!;
}
