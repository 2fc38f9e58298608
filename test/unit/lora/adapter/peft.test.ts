import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { adapterTemplate } from '../../../../lora/adapter/adapter-template.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { readPeftFolder, writePeftFolder } from '../../../../lora/adapter/peft.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { copyOf, temporaryFolder } from '../../../utils/folder.ts';
import { FIXTURES, openReference } from '../../../utils/models/reference.ts';

const MODEL = join(FIXTURES, 'llama-tiny-untied');

test.each<[string | string[], string[]]>([
  ['all-linear', ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj']],
  [
    ['v_proj', 'lm_head', 'q_proj'],
    ['lm_head', 'q_proj', 'v_proj'],
  ],
  // For a pattern, the list of matching modules is written. With the pattern, PEFT would also match the whole block,
  // and fail.
  [
    String.raw`model\.layers\.1\.mlp.*`,
    ['model.layers.1.mlp.down_proj', 'model.layers.1.mlp.gate_proj', 'model.layers.1.mlp.up_proj'],
  ],
])('writes and reads a folder with targets %j', async (targets, written) => {
  const model = await openBase(MODEL);
  const lora = loraConfig({ rank: 3, alpha: 7.5, targets });
  const layout = adapterLayout(model, lora);
  const tensors = initialMatrices(layout, 5);
  const dir = join(await temporaryFolder(), 'new/adapter');
  const baseDigest = 'cd'.repeat(32);
  await writePeftFolder(dir, {
    layout,
    tensors,
    lora,
    baseModelName: 'someone/base',
    revision: 'abc',
    baseDigest,
  });
  expect((await readdir(dir)).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);

  const text = await readFile(join(dir, 'adapter_config.json'), 'utf8');
  const config = JSON.parse(text);
  expect(Object.keys(config)).toEqual(Object.keys(config).sort());
  expect(text).toBe(`${JSON.stringify(config, null, 2)}\n`);
  expect(config).toMatchObject({
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: 'someone/base',
    revision: 'abc',
    r: 3,
    lora_alpha: 7.5,
    target_modules: written,
  });

  expect(await readPeftFolder(dir, model)).toEqual({
    layout,
    tensors,
    lora: { ...lora, targets: written },
    baseModelName: 'someone/base',
    revision: 'abc',
    baseDigest,
  });
});

test('writes the chat template of an adapter, and removes that of an earlier adapter', async () => {
  const { adapter } = await openReference('untied');
  const dir = await temporaryFolder();
  await writePeftFolder(dir, { ...adapter, chatTemplate: '{{ messages }}' });
  expect(await readFile((await adapterTemplate(dir))!, 'utf8')).toBe('{{ messages }}');
  await writePeftFolder(dir, adapter);
  expect(await adapterTemplate(dir)).toBeNull();
});

test('reads an adapter that PEFT wrote', async () => {
  const { adapter } = await openReference('untied');
  expect(adapter.lora).toMatchObject({ rank: 4, alpha: 12 });
  expect(new Set(adapter.lora.targets)).toEqual(new Set(['q_proj', 'v_proj', 'down_proj']));
  expect(adapter.layout).toHaveLength(2 * 3 * 2);
  expect(adapter.baseDigest).toBeNull();
});

async function changed(change: Record<string, unknown>) {
  const dir = await copyOf(join(MODEL, 'adapter'));
  const path = join(dir, 'adapter_config.json');
  const config = { ...JSON.parse(await readFile(path, 'utf8')), ...change };
  await writeFile(path, JSON.stringify(config));
  return readPeftFolder(dir, await openBase(MODEL));
}

test.each([
  ['peft_type', 'IA3'],
  ['ensure_weight_tying', true],
  ['lora_bias', true],
  ['init_lora_weights', 'pissa'],
  ['init_lora_weights', 'pissa_niter_4'],
  ['init_lora_weights', 'olora'],
  ['layer_replication', [[0, 1]]],
  ['use_qalora', true],
  ['kasa_config', { beta: 1 }],
  ['target_parameters', ['x']],
  ['trainable_token_indices', [1]],
])('refuses %s = %j as unsupported', async (field, value) => {
  await expect(changed({ [field]: value })).rejects.toMatchObject({
    code: 'ADAPTER_UNSUPPORTED',
    values: { field },
  });
});

test.each([
  ['r', '4', 'LORA_CONFIG'],
  ['r', 0, 'LORA_CONFIG'],
  ['r', 5, 'ADAPTER_TENSORS'],
  ['lora_alpha', [], 'LORA_CONFIG'],
  ['lora_alpha', -1, 'LORA_CONFIG'],
  ['use_dora', true, 'ADAPTER_TENSORS'],
  ['use_dora', 'yes', 'LORA_CONFIG'],
  ['rank_pattern', { q_proj: 2 }, 'ADAPTER_TENSORS'],
  ['rank_pattern', { q_proj: 0 }, 'LORA_CONFIG'],
  ['rank_pattern', { '(': 2 }, 'LORA_PATTERN'],
  ['modules_to_save', ['lm_head'], 'ADAPTER_TENSORS'],
  ['modules_to_save', ['score'], 'LORA_SAVED'],
  ['modules_to_save', ['_proj'], 'LORA_SAVED'],
  ['layers_to_transform', [0], 'ADAPTER_TENSORS'],
  ['layers_to_transform', 0, 'ADAPTER_TENSORS'],
  ['layers_to_transform', 7, 'LORA_TARGETS'],
  ['exclude_modules', 'q_proj|.*v_proj', 'ADAPTER_TENSORS'],
  ['bias', 'some', 'LORA_CONFIG'],
  ['target_modules', null, 'ADAPTER_CONFIG'],
  ['target_modules', [1], 'ADAPTER_CONFIG'],
  ['target_modules', ['c_attn'], 'LORA_TARGETS'],
  ['target_modules', ['q_proj', 'v_proj', 'down_proj', 'input_layernorm'], 'LORA_TARGETS'],
  ['target_modules', ['q_proj', 'v_proj', 'down_proj', 'embed_tokens'], 'ADAPTER_TENSORS'],
  ['target_modules', ['q_proj', 'v_proj'], 'ADAPTER_TENSORS'],
  ['target_modules', ['q_proj', 'v_proj', 'down_proj', 'o_proj'], 'ADAPTER_TENSORS'],
  ['revision', 7, 'ADAPTER_CONFIG'],
])('refuses %s = %j, which does not fit', async (field, value, expected) => {
  await expect(changed({ [field]: value })).rejects.toMatchObject({ code: expected });
});

test('ignores targets of other models in the list, like PEFT', async () => {
  const targets = ['query_key_value', 'q_proj', 'v_proj', 'down_proj'];
  const adapter = await changed({ target_modules: targets });
  expect(adapter.lora.targets).toEqual(['q_proj', 'v_proj', 'down_proj']);
});

test('keeps fields that do not change any tensor', async () => {
  const change = {
    use_rslora: true,
    alpha_pattern: { '1.*': 3, q_proj: 5 },
    lora_dropout: 0.1,
    bias: 'all',
    init_lora_weights: 'gaussian',
  };
  const { lora } = await changed({ ...change, fan_in_fan_out: true, layers_pattern: 'layers' });
  expect(lora).toMatchObject({
    useRslora: true,
    alphaPattern: [
      ['1.*', 3],
      ['q_proj', 5],
    ],
    dropout: 0.1,
    bias: 'all',
    initLoraWeights: 'gaussian',
  });
});

test('refuses a folder without config or weights', async () => {
  const model = await openBase(MODEL);
  for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
    const dir = await copyOf(join(MODEL, 'adapter'));
    await rm(join(dir, file));
    await expect(readPeftFolder(dir, model)).rejects.toMatchObject({
      code: 'MODEL_FILE_MISSING',
      values: { file: join(dir, file) },
    });
  }
});

test.each([
  ['gpt2', 'LORA_TARGETS'],
  ['qwen3', 'ADAPTER_TENSORS'],
])('names the base of an adapter that does not fit the base %s', async (family, code) => {
  const model = await openBase(MODEL);
  const lora = loraConfig({ rank: 2, alpha: 4, targets: ['down_proj', 'q_proj'] });
  const layout = adapterLayout(model, lora);
  const dir = join(await temporaryFolder(), 'adapter');
  const tensors = initialMatrices(layout, 5);
  await writePeftFolder(dir, { layout, tensors, lora, baseModelName: 'someone/base', revision: null });
  const other = await openBase(join(FIXTURES, 'families', family));
  await expect(readPeftFolder(dir, other)).rejects.toMatchObject({
    code,
    next: expect.stringContaining('someone/base'),
  });
});
