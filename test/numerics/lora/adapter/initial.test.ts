import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { initialAdapter, initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { type LoraConfig, loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base/base-model.ts';
import { readTensor } from '../../../../lora/models/weights/safetensors.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { inFloat32 } from '../../../utils/models/adapters.ts';
import { FIXTURES, maxDifference } from '../../../utils/models/reference.ts';
import { withCode } from '../../../utils/source/codes.ts';

async function start(settings: Partial<LoraConfig>, folder = 'llama-tiny-untied') {
  const model = await openBase(join(FIXTURES, folder));
  const lora = loraConfig({ rank: 4, targets: ['k_proj', 'down_proj'], ...settings });
  const layout = adapterLayout(model, lora);
  const tensors = await initialAdapter(model, lora, 7);
  const values = new Map(layout.map(({ name }, i) => [name.replace('base_model.model.', ''), tensors[i]!]));
  return { model, lora, layout, tensors, values };
}

async function weightOf({ dir, tensors }: BaseModel, name: string): Promise<Float32Array> {
  const { file, entry } = tensors.get(name)!;
  return readTensor(join(dir, file), entry);
}

test('matrices depend only on the seed', async () => {
  const { layout, tensors } = await start({});
  expect(tensors).toEqual(initialMatrices(layout, 7));
  const again = await start({ useDora: true, modulesToSave: ['norm'] });
  for (const [i, { name }] of layout.entries())
    expect(again.values.get(name.replace('base_model.model.', ''))).toEqual(tensors[i]);
});

test("DoRA's magnitudes are the norms of the base's rows", async () => {
  const { model, values } = await start({ useDora: true });
  const name = 'model.layers.1.mlp.down_proj';
  const weight = await weightOf(model, `${name}.weight`);
  const magnitude = values.get(`${name}.lora_magnitude_vector`)!;
  const width = weight.length / magnitude.length;
  expect(magnitude).toHaveLength(model.config.hiddenSize);
  const norms = magnitude.map((_, row) => Math.hypot(...weight.subarray(row * width, (row + 1) * width)));
  expect(maxDifference(magnitude, norms)).toBeLessThan(1e-6);
});

test("DoRA's magnitudes are the norms of the changed rows if B does not start at zero", async () => {
  const { model, values, lora } = await start({ useDora: true, initLoraWeights: false });
  const name = 'model.layers.0.self_attn.k_proj';
  const weight = await weightOf(model, `${name}.weight`);
  const [a, b] = [values.get(`${name}.lora_A.weight`)!, values.get(`${name}.lora_B.weight`)!];
  const magnitude = values.get(`${name}.lora_magnitude_vector`)!;
  const width = weight.length / magnitude.length;
  const scale = lora.alpha / lora.rank;
  const norms = magnitude.map((_, row) => {
    const changed = [...weight.subarray(row * width, (row + 1) * width)].map((w, j) => {
      let product = 0;
      for (let r = 0; r < lora.rank; r++) product += b[row * lora.rank + r]! * a[r * width + j]!;
      return w + scale * product;
    });
    return Math.hypot(...changed);
  });
  expect(maxDifference(magnitude, norms)).toBeLessThan(1e-6);
});

test('refuses DoRA on a zero row, because it divides by the norm', async () => {
  const source = await openBase(join(FIXTURES, 'llama-tiny-untied'));
  const name = 'model.layers.1.mlp.down_proj';
  const model = await inFloat32(source, await temporaryFolder(), (parameter, values) => {
    if (parameter === `${name}.weight`) values.fill(0, 2 * 40, 3 * 40);
  });
  const lora = loraConfig({ targets: ['down_proj'], useDora: true });
  await expect(initialAdapter(model, lora, 1)).rejects.toThrow(
    expect.objectContaining({ code: 'LORA_ZERO_NORM', values: { module: name, row: 2 } }),
  );
});

test('saved modules start with the values of the base, a tied head with the embedding', async () => {
  const { model, values } = await start({ modulesToSave: ['norm', 'lm_head'] }, 'llama-tiny-tied');
  expect(values.get('model.norm.weight')).toEqual(await weightOf(model, 'model.norm.weight'));
  expect(values.get('model.layers.0.input_layernorm.weight')).toBeDefined();
  expect(values.get('lm_head.weight')).toEqual(await weightOf(model, 'model.embed_tokens.weight'));
});

test('for an embedding, A starts at zero and B is normal', async () => {
  const { values } = await start({ targets: ['embed_tokens'], rank: 64 });
  expect(values.get('model.embed_tokens.lora_embedding_A')!.every((value) => value === 0)).toBe(true);
  const b = values.get('model.embed_tokens.lora_embedding_B')!;
  const square = b.reduce((sum, value) => sum + value * value, 0) / b.length;
  expect(Math.abs(square - 1)).toBeLessThan(5 * Math.sqrt(2 / b.length));
});

describe('init_lora_weights', () => {
  const moments = (values: Float32Array) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const square = values.reduce((a, b) => a + b * b, 0) / values.length;
    return { mean, deviation: Math.sqrt(square - mean * mean), largest: Math.max(...values.map(Math.abs)) };
  };

  test('gaussian: A normal with a deviation of 1/r, B zero', async () => {
    const { values } = await start({ rank: 256, initLoraWeights: 'gaussian' });
    const a = values.get('model.layers.0.self_attn.k_proj.lora_A.weight')!;
    const { mean, deviation, largest } = moments(a);
    expect(Math.abs(mean * 256)).toBeLessThan(5 / Math.sqrt(a.length));
    expect(Math.abs(deviation * 256 - 1)).toBeLessThan(5 / Math.sqrt(2 * a.length));
    expect(largest * 256).toBeGreaterThan(3);
    expect(moments(values.get('model.layers.0.self_attn.k_proj.lora_B.weight')!).largest).toBe(0);
  });

  test('false: both uniform', async () => {
    const { values } = await start({ rank: 256, initLoraWeights: false });
    const b = values.get('model.layers.0.self_attn.k_proj.lora_B.weight')!;
    const { deviation, largest } = moments(b);
    expect(largest).toBeLessThan(1 / 16);
    expect(Math.abs((deviation * 16) / Math.sqrt(1 / 3) - 1)).toBeLessThan(0.05);
  });
});

test('initialMatrices refuses a layout with saved modules', async () => {
  const { layout } = await start({ modulesToSave: ['norm'] });
  expect(() => initialMatrices(layout, 7)).toThrow(withCode('ADAPTER_INIT'));
});

describe('refuses settings that do not fit', () => {
  test.each<[Partial<LoraConfig>, string]>([
    [{ modulesToSave: ['score'] }, 'LORA_SAVED'],
    [{ modulesToSave: ['_proj'] }, 'LORA_SAVED'],
    [{ rankPattern: [['(', 2]] }, 'LORA_PATTERN'],
    [{ targets: ['input_layernorm'] }, 'LORA_TARGETS'],
    [{ targets: ['embed_tokens'], useDora: true }, 'LORA_EMBEDDING'],
    [{ targets: ['embed_tokens'], freezeA: true }, 'LORA_EMBEDDING'],
    [{ targets: ['q_proj'], modulesToSave: ['self_attn'] }, 'LORA_TARGETS'],
  ])('%j', async (settings, expected) => {
    await expect(start(settings)).rejects.toMatchObject({ code: expected });
  });

  test.each<[Partial<LoraConfig>, string]>([
    [{ targets: '.*q_proj', layersToTransform: [0] }, 'layersToTransform'],
    [{ dropout: 1 }, 'dropout'],
    [{ rank: 0 }, 'rank'],
    [{ rankPattern: [['q_proj', 1025]] }, 'rankPattern.0.1'],
  ])('%j, for any model', (settings, field) => {
    expect(() => loraConfig(settings)).toThrow(withCode('LORA_CONFIG', { field }));
  });
});
