import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../lora/adapter/peft.ts';
import type { Row } from '../../lora/data/packing.ts';
import type { Engine } from '../../lora/engines/engine.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { type Model, openModel, prepareWeights } from '../../lora/models/model.ts';
import { readHeader, readTensor } from '../../lora/models/safetensors.ts';
import { writeSafetensors } from '../../lora/models/safetensors-writer.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { adaptedParameters } from '../../lora/train/adapted.ts';
import { FIXTURES } from './reference.ts';

/** What scripts/reference/make_adapters.py stored of one adapter. */
export interface AdapterCase {
  dir: string;
  model: Model;
  adapter: Adapter;
  rows: Row[];
  /** Of the dropout masks, step by step. */
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

export async function openAdapterCase(name: string): Promise<AdapterCase> {
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
  return { ...json, dir, model, adapter, rows, tensor: (tensor) => readTensor(path, entries.get(tensor)!) };
}

/** Logits [B·T, V] of rows under an adapter, or of the bare model. */
export async function logitsOf(
  { model, rows, engine, cacheDir }: { model: Model; rows: readonly Row[]; engine: Engine; cacheDir: string },
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

/** The model with its weights widened to float32, in a folder of its own. */
export async function inFloat32(model: Model, dir: string): Promise<Model> {
  await mkdir(dir, { recursive: true });
  for (const file of ['config.json', 'tokenizer.json'])
    await copyFile(join(model.dir, file), join(dir, file));
  const names = model.architecture.parameters(model.config).map(({ name }) => name);
  const tensors = names.map(async (name) => {
    const { file, entry } = model.tensors.get(name)!;
    return {
      name,
      dtype: 'F32' as const,
      shape: entry.shape,
      data: await readTensor(join(model.dir, file), entry),
    };
  });
  await writeSafetensors(join(dir, 'model.safetensors'), await Promise.all(tensors));
  return openModel(dir);
}
