import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ExportGgufOptions, exportGguf } from '../../../../lora/adapter/export-gguf.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { parseConfig } from '../../../../lora/models/families.ts';
import { configMetadata } from '../../../../lora/models/gguf/config-metadata.ts';
import { importGguf } from '../../../../lora/models/gguf/import-model.ts';
import { readGguf } from '../../../../lora/models/gguf/reader.ts';
import { readTensor } from '../../../../lora/models/weights/safetensors.ts';
import { writeSafetensors } from '../../../../lora/models/weights/safetensors-writer.ts';
import { copyOf, temporaryFolder } from '../../../utils/folder.ts';
import { FAMILY_FIXTURES } from '../../../utils/models/families.ts';
import { copyForGguf, readGgufTensors } from '../../../utils/models/gguf.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';
import { makeTinyModel } from '../../../utils/models/tiny-model.ts';
import { withCode } from '../../../utils/source/codes.ts';

async function exported(options: Partial<ExportGgufOptions> & { base: string }) {
  const dir = await temporaryFolder();
  return exportGguf({ type: 'f32', output: join(dir, 'out'), cacheDir: join(dir, 'cache'), ...options });
}

async function copied(fixture: string): Promise<string> {
  return copyForGguf(join(FIXTURES, fixture), join(await temporaryFolder(), 'model'));
}

describe.each(FAMILY_FIXTURES)('%s', (fixture) => {
  test('is the same model after export and import', async () => {
    const base = await copied(fixture);
    const { file } = await exported({ base });
    const output = join(await temporaryFolder(), 'imported');
    await importGguf({ path: file, output });
    const [before, after] = [await openBase(base), await openBase(output)];
    const {
      family: _,
      windows,
      maxPositions,
      ...kept
    } = before.config as typeof before.config & { windows: [] };
    expect(after.config).toMatchObject(kept);
    // llama.cpp ignores windows of most families, so the shortest window limits the context.
    const limit = before.config.family === 'gemma3_text' ? [] : (windows ?? []).filter(Number);
    expect(after.config.maxPositions).toBe(Math.min(maxPositions, ...limit));
    for (const { name } of before.architecture.parameters(before.config)) {
      const { file: shard, entry } = before.tensors.get(name)!;
      const found = after.tensors.get(name)!;
      const values = await readTensor(join(output, found.file), found.entry);
      const expected = await readTensor(join(base, shard), entry);
      // The export adds 1 to the weights of Gemma's norms, and the import subtracts it again. Both operations round.
      const tolerance = before.config.family === 'gemma3_text' && name.includes('norm') ? 2 ** -23 : 0;
      expect(Math.max(...values.map((value, i) => Math.abs(value - expected[i]!))), name).toBeLessThanOrEqual(
        tolerance,
      );
    }
  });

  test('has an adapter that gives the merged weights', async () => {
    const base = await copied(fixture);
    const adapter = join(FIXTURES, fixture, 'adapter');
    const files = [
      await exported({ base }),
      await exported({ base, adapter }),
      await exported({ base, adapter, merge: false }),
    ];
    const [plain, merged, alone] = await Promise.all(files.map(({ file }) => readGgufTensors(file)));
    const { metadata, tensors } = await readGguf(files[2]!.file);
    expect(metadata.get('general.type')).toBe('adapter');
    expect(files[2]!.modelfile).toBeNull();
    const modules = [...alone!.keys()].flatMap((name) =>
      name.endsWith('.lora_a') ? [name.slice(0, -7)] : [],
    );
    expect(modules.length).toBeGreaterThan(0);
    expect(tensors.size).toBe(2 * modules.length);
    for (const module of modules) {
      const [rank, width] = tensors.get(`${module}.lora_a`)!.shape as [number, number];
      const scale = (metadata.get('adapter.lora.alpha') as number) / rank;
      const [a, b] = [alone!.get(`${module}.lora_a`)!, alone!.get(`${module}.lora_b`)!];
      const expected = plain!.get(module)!.map((weight, i) => {
        const [row, column] = [Math.floor(i / width), i % width];
        let change = 0;
        for (let r = 0; r < rank; r++) change += b[row * rank + r]! * a[r * width + column]!;
        return weight + scale * change;
      });
      const found = merged!.get(module)!;
      expect(Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))), module).toBeLessThan(1e-5);
    }
  });
});

test('matrices have the chosen type, and everything else is F32', async () => {
  const base = await makeTinyModel(join(await temporaryFolder(), 'tiny'));
  for (const type of ['f32', 'f16', 'bf16', 'q8_0'] as const) {
    const { file, bytes, modelfile } = await exported({ base, type });
    const { tensors, metadata } = await readGguf(file);
    expect(tensors.get('blk.0.attn_q.weight')!.type).toBe(type.toUpperCase());
    expect(tensors.get('token_embd.weight')!.type).toBe(type.toUpperCase());
    expect(tensors.get('blk.1.ffn_norm.weight')!.type).toBe('F32');
    expect(metadata.get('general.file_type')).toBe({ f32: 0, f16: 1, bf16: 32, q8_0: 7 }[type]);
    expect(metadata.get('general.name')).toBe('tiny');
    expect((await readFile(file)).length).toBe(bytes);
    expect(await readFile(modelfile!, 'utf8')).toBe('FROM ./model.gguf\n');
  }
});

test('a matrix whose rows are no whole blocks of Q8_0 becomes F16', async () => {
  const base = await copied('llama-tiny-untied');
  const { tensors } = await readGguf((await exported({ base, type: 'q8_0' })).file);
  const types = new Map(
    [...tensors].map(([name, { type, shape }]) => [name, `${type} ${shape.at(-1)! % 32}`]),
  );
  expect(types.get('blk.0.attn_q.weight')).toBe('F16 24');
  expect(types.get('rope_freqs.weight')).toMatch(/^F32/);
});

describe('an adapter alone is refused if it has', () => {
  const cases: [string, string, string][] = [
    ['magnitudes', 'dora', 'llama-tiny-untied'],
    ['saved modules', 'saved', 'llama-tiny-untied'],
    ['biases', 'gpt2-bias', 'families/gpt2'],
    ['an embedding', 'embedding', 'llama-tiny-untied'],
  ];
  test.each(cases)('%s', async (_, name, fixture) => {
    const base = await copied(fixture);
    const adapter = join(FIXTURES, 'adapters', name);
    await expect(exported({ base, adapter, merge: false })).rejects.toMatchObject({ code: 'GGUF_ADAPTER' });
  });

  test('the type bf16 or q8_0, or no adapter', async () => {
    const base = await copied('llama-tiny-tied');
    const adapter = join(FIXTURES, 'llama-tiny-tied', 'adapter');
    for (const options of [{ adapter, type: 'bf16' }, { adapter, type: 'q8_0' }, {}] as const)
      await expect(exported({ base, merge: false, ...options })).rejects.toMatchObject({
        code: 'GGUF_ADAPTER',
      });
  });
});

test('modules with other ranks and alphas get their scales through B', async () => {
  const base = await copied('llama-tiny-untied');
  const adapter = join(FIXTURES, 'adapters', 'patterns');
  const { file } = await exported({ base, adapter, merge: false });
  const { tensors } = await readGguf(file);
  const ranks = new Set(
    [...tensors].flatMap(([name, { shape }]) => (name.endsWith('lora_a') ? [shape[0]] : [])),
  );
  expect(ranks.size).toBeGreaterThan(1);
});

describe('llama.cpp cannot compute', () => {
  const gemma = {
    model_type: 'gemma3_text',
    vocab_size: 10,
    hidden_size: 16,
    intermediate_size: 16,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    query_pre_attn_scalar: 8,
  };
  const gpt2 = { model_type: 'gpt2', vocab_size: 10, n_embd: 8, n_head: 2, n_layer: 1 };
  const qwen3 = { ...gemma, model_type: 'qwen3', max_position_embeddings: 128 };
  const yarn = { rope_type: 'yarn', factor: 2, original_max_position_embeddings: 64 };
  const cases: [string, object][] = [
    ['another factor of attention scores', { ...gemma, query_pre_attn_scalar: 9 }],
    ['an irregular sequence of layers', { ...gemma, layer_types: ['full_attention', 'sliding_attention'] }],
    ['a Gemma with biases', { ...gemma, attention_bias: true }],
    ['a Gemma with YaRN', { ...gemma, rope_scaling: yarn, max_position_embeddings: 128 }],
    ['a Qwen 3 with biases', { ...qwen3, attention_bias: true }],
    ['scores that depend on the layer', { ...gpt2, scale_attn_by_inverse_layer_idx: true }],
    ['YaRN with its own factor', { ...qwen3, rope_scaling: { ...yarn, attention_factor: 2 } }],
    ['YaRN without truncation', { ...qwen3, rope_scaling: { ...yarn, truncate: false } }],
  ];
  test.each(cases)('%s', (_, config) => {
    expect(() => configMetadata(parseConfig(config))).toThrow(withCode('GGUF_UNSUPPORTED'));
  });
});

test('a weight that does not fit into a half gives an error and no file', async () => {
  const base = await makeTinyModel(join(await temporaryFolder(), 'tiny'));
  const { tensors } = await openBase(base);
  const file = join(base, 'model.safetensors');
  const all = await Promise.all(
    [...tensors].map(async ([name, { entry }]) => {
      return { name, dtype: 'F32' as const, shape: entry.shape, data: await readTensor(file, entry) };
    }),
  );
  const changed = all.find(({ name }) => name.endsWith('up_proj.weight'))!;
  changed.data[5] = 65_520;
  await writeSafetensors(file, all);
  const output = join(await temporaryFolder(), 'out');
  const values = { tensor: changed.name, type: 'F16' };
  await expect(exported({ base, type: 'f16', output })).rejects.toMatchObject({ code: 'GGUF_RANGE', values });
  expect(await readdir(output)).toEqual([]);
  await exported({ base, type: 'bf16' });
});

test('files in the way are kept, unless the caller forces it', async () => {
  const base = await makeTinyModel(join(await temporaryFolder(), 'tiny'));
  const output = await temporaryFolder();
  await writeFile(join(output, 'model.gguf'), 'mine');
  await expect(exported({ base, output })).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
  expect(await readFile(join(output, 'model.gguf'), 'utf8')).toBe('mine');
  const { file } = await exported({ base, output, force: true });
  expect((await readGguf(file)).tensors.size).toBeGreaterThan(0);
});

test('progress grows to its total, and an abort ends the export with its reason', async () => {
  const base = await makeTinyModel(join(await temporaryFolder(), 'tiny'));
  const reports: [number, number][] = [];
  await exported({ base, onProgress: (done, total) => reports.push([done, total]) });
  expect(reports.at(-1)![0]).toBe(reports.at(-1)![1]);
  expect(reports.map(([done]) => done)).toEqual(reports.map(([done]) => done).sort((a, b) => a - b));
  const controller = new AbortController();
  const reason = new Error('stop');
  const onProgress = () => controller.abort(reason);
  await expect(exported({ base, onProgress, signal: controller.signal })).rejects.toBe(reason);
});

test("a merged model has the adapter's chat template", async () => {
  const base = await copied('llama-tiny-untied');
  const adapter = await copyOf(join(FIXTURES, 'llama-tiny-untied', 'adapter'));
  await writeFile(join(adapter, 'chat_template.jinja'), '{{ messages }}');
  const { file } = await exported({ base, adapter });
  const { metadata } = await readGguf(file);
  expect(metadata.get('tokenizer.chat_template')).toBe('{{ messages }}');
});
