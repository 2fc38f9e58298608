import { readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openBase } from '../../../../../lora/models/base/base-model.ts';
import { readHeader, readTensor } from '../../../../../lora/models/weights/safetensors.ts';
import {
  type TensorToWrite,
  writeSafetensors,
} from '../../../../../lora/models/weights/safetensors-writer.ts';
import { copyOf, temporaryFolder } from '../../../../utils/folder.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';

const TIED = join(FIXTURES, 'llama-tiny-tied');
const UNTIED = join(FIXTURES, 'llama-tiny-untied');

test('opens a model in one file, and one in shards', async () => {
  const tied = await openBase(TIED);
  expect(tied.tensors.get('model.norm.weight')?.file).toBe('model.safetensors');
  expect(tied.tensors.has('lm_head.weight')).toBe(false);
  const untied = await openBase(UNTIED);
  expect(new Set([...untied.tensors.values()].map(({ file }) => file)).size).toBe(3);
  expect(untied.tensors.get('lm_head.weight')?.entry).toMatchObject({ dtype: 'BF16', shape: [272, 24] });
  const values = [...untied.tensors.values()].map(({ entry }) => entry.length / 2);
  expect(untied.parameters).toBe(values.reduce((a, b) => a + b));
});

test('ignores an index beside a single file, like transformers', async () => {
  const dir = await copyOf(TIED);
  await writeFile(join(dir, 'model.safetensors.index.json'), '{"weight_map": {"x": "away.safetensors"}}');
  expect((await openBase(dir)).tensors.get('model.norm.weight')?.file).toBe('model.safetensors');
});

test('refuses an unknown tensor that is in a shard but not in the index', async () => {
  const dir = await withExtraTensor('model.layers.0.self_attn.q_proj.bias');
  const path = join(dir, 'model.safetensors');
  const names = [...(await readHeader(path)).entries.keys()].filter((name) => !name.endsWith('.bias'));
  const weight_map = Object.fromEntries(names.map((name) => [name, 'part.safetensors']));
  await writeFile(`${path}.index.json`, JSON.stringify({ weight_map }));
  await rename(path, join(dir, 'part.safetensors'));
  await expect(openBase(dir)).rejects.toMatchObject({
    code: 'TENSORS_UNEXPECTED',
    values: { file: 'part.safetensors' },
  });
});

test.each([
  ['config.json', 'MODEL_FILE_MISSING'],
  ['tokenizer.json', 'MODEL_FILE_MISSING'],
  ['model.safetensors', 'MODEL_FILE_MISSING'],
])('refuses a folder without %s', async (file, expected) => {
  const dir = await copyOf(TIED);
  await rm(join(dir, file));
  await expect(openBase(dir)).rejects.toMatchObject({ code: expected, values: { file: join(dir, file) } });
});

test('refuses a folder that does not exist', async () => {
  const dir = join(await temporaryFolder(), 'absent');
  await expect(openBase(dir)).rejects.toMatchObject({ code: 'MODEL_DIR', values: { dir } });
});

test.each([
  ['config.json', 100, 'MODEL_JSON'],
  ['tokenizer.json', 1000, 'MODEL_JSON'],
  ['model.safetensors', 5, 'TENSORS_TRUNCATED'],
  ['model.safetensors', 500, 'TENSORS_TRUNCATED'],
  ['model.safetensors', 50_000, 'TENSORS_TRUNCATED'],
])('refuses %s cut off after %i bytes', async (file, bytes, expected) => {
  const dir = await copyOf(TIED);
  await truncate(join(dir, file), bytes);
  await expect(openBase(dir)).rejects.toMatchObject({ code: expected, values: { file: join(dir, file) } });
});

test('refuses a tokenizer.json without a model', async () => {
  const dir = await copyOf(TIED);
  await writeFile(join(dir, 'tokenizer.json'), '{"version":"1.0"}');
  await expect(openBase(dir)).rejects.toMatchObject({ code: 'MODEL_JSON' });
});

test.each([
  ['hidden_size', 64, 'model.embed_tokens.weight', [272, 64], [272, 32]],
  ['num_key_value_heads', 4, 'model.layers.0.self_attn.k_proj.weight', [32, 32], [16, 32]],
])('refuses weights that do not fit the %s of config.json', async (field, value, tensor, expected, found) => {
  const dir = await copyOf(TIED);
  const path = join(dir, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...config, [field]: value }));
  await expect(openBase(dir)).rejects.toMatchObject({
    code: 'TENSORS_SHAPE',
    values: { tensor, expected, found },
  });
});

test('refuses weights without a layer or a head that config.json requires', async () => {
  const dir = await copyOf(TIED);
  const path = join(dir, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...config, num_hidden_layers: 3 }));
  const tensor = 'model.layers.2.input_layernorm.weight';
  await expect(openBase(dir)).rejects.toMatchObject({ code: 'TENSORS_MISSING', values: { tensor } });
  await writeFile(path, JSON.stringify({ ...config, tie_word_embeddings: false }));
  await expect(openBase(dir)).rejects.toMatchObject({
    code: 'TENSORS_MISSING',
    values: { tensor: 'lm_head.weight' },
  });
});

async function withExtraTensor(name: string, of = TIED): Promise<string> {
  const dir = await copyOf(of);
  const path = join(dir, 'model.safetensors');
  const { entries } = await readHeader(path);
  const tensors: TensorToWrite[] = [{ name, dtype: 'F32', shape: [8], data: new Float32Array(8) }];
  for (const [other, entry] of entries) {
    if (entry.dtype !== 'F32') continue;
    tensors.push({ name: other, dtype: 'F32', shape: [...entry.shape], data: await readTensor(path, entry) });
  }
  await writeSafetensors(path, tensors);
  return dir;
}

test('refuses weights that the forward pass would ignore, except known leftovers', async () => {
  const tensor = 'model.layers.0.self_attn.q_proj.bias';
  await expect(openBase(await withExtraTensor(tensor))).rejects.toMatchObject({
    code: 'TENSORS_UNEXPECTED',
    values: { tensor },
  });
  await openBase(await withExtraTensor('lm_head.weight'));
  await openBase(await withExtraTensor('model.layers.0.self_attn.rotary_emb.inv_freq'));
});

describe('GPT-2, whose files use two naming schemes', () => {
  const bare = join(FIXTURES, 'families/gpt2');
  const prefixed = join(FIXTURES, 'families/gpt2-untied');

  test('maps names with and without `transformer.` to those of the architecture', async () => {
    for (const dir of [bare, prefixed]) {
      const { tensors, architecture, config } = await openBase(dir);
      for (const { name } of architecture.parameters(config)) expect(tensors.has(name), name).toBe(true);
    }
    const { entries } = await readHeader(join(bare, 'model.safetensors'));
    expect(entries.has('wte.weight')).toBe(true);
    // OpenAI's own file holds the causal mask of every layer.
    expect(entries.get('h.0.attn.bias')?.dtype).toBe('U8');
  });

  test('ignores a mask, but refuses another bias and a tensor under both names', async () => {
    await openBase(await withExtraTensor('transformer.h.1.attn.masked_bias', prefixed));
    const tensor = 'transformer.h.0.attn.c_bias';
    await expect(openBase(await withExtraTensor('h.0.attn.c_bias', bare))).rejects.toMatchObject({
      code: 'TENSORS_UNEXPECTED',
      values: { tensor },
    });
    await expect(openBase(await withExtraTensor('ln_f.bias', prefixed))).rejects.toMatchObject({
      code: 'TENSORS_UNEXPECTED',
      values: { tensor: 'ln_f.bias' },
    });
  });
});

async function withIndex(change: (weightMap: Record<string, unknown>) => unknown): Promise<string> {
  const dir = await copyOf(UNTIED);
  const path = join(dir, 'model.safetensors.index.json');
  const index = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...index, weight_map: change(index.weight_map) }));
  return dir;
}

test.each([
  '../model.safetensors',
  '/etc/model.safetensors',
  'a/b.safetensors',
  'a\\b.safetensors',
  '.hidden.safetensors',
  'C:x.safetensors',
  'model.bin',
  'a.safetensors\0',
  '',
  7,
])('refuses an index that points to %j', async (file) => {
  const dir = await withIndex((map) => ({ ...map, 'model.norm.weight': file }));
  await expect(openBase(dir)).rejects.toMatchObject({
    code: 'MODEL_INDEX',
    values: { tensor: 'model.norm.weight' },
  });
});

test('refuses an index without a map or with a wrong shard, but not one that leaves out a tensor', async () => {
  await expect(openBase(await withIndex(() => []))).rejects.toMatchObject({ code: 'MODEL_INDEX' });
  const wrong = await withIndex((map) => {
    const other = Object.values(map).find((file) => file !== map['model.norm.weight']);
    return { ...map, 'model.norm.weight': other };
  });
  await expect(openBase(wrong)).rejects.toMatchObject({
    code: 'MODEL_INDEX',
    values: { tensor: 'model.norm.weight' },
  });
  const short = await withIndex(({ 'model.norm.weight': _, ...rest }) => rest);
  // The shard still contains the tensor, although the index does not name it.
  expect((await openBase(short)).tensors.has('model.norm.weight')).toBe(true);
});

test('refuses a folder without one of its shards', async () => {
  const dir = await copyOf(UNTIED);
  await rename(join(dir, 'model-00002-of-00003.safetensors'), join(dir, 'elsewhere'));
  await expect(openBase(dir)).rejects.toMatchObject({ code: 'MODEL_FILE_MISSING' });
});
