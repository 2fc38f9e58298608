import { expect, test } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout, adapterSize } from '../../../../lora/adapter/layout.ts';
import { type LoraConfig, loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { llama } from '../../../../lora/models/families/llama.ts';
import { withCode } from '../../../utils/source/codes.ts';

const model = {
  architecture: llama,
  config: llama.parseConfig({
    model_type: 'llama',
    hidden_size: 64,
    intermediate_size: 96,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    num_hidden_layers: 11,
    vocab_size: 10,
  }),
};
const lora = loraConfig({ rank: 8, alpha: 16 });
const layout = adapterLayout(model, lora);

test('has two matrices per module, sorted by name', () => {
  expect(layout).toHaveLength(11 * 7 * 2);
  const names = layout.map(({ name }) => name);
  expect(names).toEqual([...names].sort());
  const shapes = Object.fromEntries(layout.map(({ name, shape }) => [name, shape]));
  const attention = 'base_model.model.model.layers.10.self_attn';
  expect(shapes[`${attention}.k_proj.lora_A.weight`]).toEqual([8, 64]);
  expect(shapes[`${attention}.k_proj.lora_B.weight`]).toEqual([32, 8]);
  expect(shapes['base_model.model.model.layers.2.mlp.down_proj.lora_A.weight']).toEqual([8, 96]);
  expect(adapterSize(layout)).toBe(
    layout.reduce((sum, { shape: [rows, columns] }) => sum + rows * columns, 0),
  );
});

test.each<[Partial<LoraConfig>, string, object]>([
  [{ targets: ['c_attn'] }, 'LORA_TARGETS', { target: 'c_attn' }],
  [{ excludeModules: ['q_proj', 'c_attn'] }, 'LORA_TARGETS', { entry: 'c_attn' }],
  [{ rankPattern: [['q_prj', 4]] }, 'LORA_PATTERN', { field: 'rankPattern', pattern: 'q_prj' }],
  [
    { alphaPattern: [['layers\\.11\\..*', 4]] },
    'LORA_PATTERN',
    { field: 'alphaPattern', pattern: 'layers\\.11\\..*' },
  ],
  // The model has a module `q_proj`, but it is not a target.
  [{ targets: ['v_proj'], rankPattern: [['q_proj', 4]] }, 'LORA_PATTERN', { pattern: 'q_proj' }],
])('refuses %j, which matches nothing', (change, code, values) => {
  expect(() => adapterLayout(model, { ...lora, ...change })).toThrow(withCode(code, values));
});

test('modules that are not targets may be excluded', () => {
  const excluded = adapterLayout(model, { ...lora, excludeModules: ['lm_head', 'norm', 'q_proj'] });
  expect(excluded).toHaveLength(11 * 6 * 2);
});

test('A is uniform in ±1/√in, B is zero', () => {
  const tensors = initialMatrices(layout, 42);
  for (const [i, { name, shape }] of layout.entries()) {
    const values = tensors[i]!;
    expect(values.length).toBe(shape[0]! * shape[1]!);
    if (name.includes('lora_B')) {
      expect(
        values.every((value) => value === 0),
        name,
      ).toBe(true);
      continue;
    }
    const bound = 1 / Math.sqrt(shape[1]);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const square = values.reduce((a, b) => a + b * b, 0) / values.length;
    expect(
      values.every((value) => Math.abs(value) < bound),
      name,
    ).toBe(true);
    // Five standard errors of the mean and of the mean square of a uniform distribution.
    expect(Math.abs(mean), name).toBeLessThan((5 * bound) / Math.sqrt(3 * values.length));
    expect(Math.abs(square / (bound ** 2 / 3) - 1), name).toBeLessThan((5 * 0.9) / Math.sqrt(values.length));
  }
});

test('initial values depend only on seed and name', () => {
  const tensors = initialMatrices(layout, 42);
  expect(initialMatrices(layout, 42)).toEqual(tensors);
  const [other] = initialMatrices(layout, 43);
  expect(other).not.toEqual(tensors[0]);
  expect(initialMatrices(layout, 42 + 2 ** 32)[0]).not.toEqual(tensors[0]);
  const some = adapterLayout(model, { ...lora, targets: ['v_proj'] });
  const values = new Map(layout.map(({ name }, i) => [name, tensors[i]!]));
  for (const [i, tensor] of initialMatrices(some, 42).entries())
    expect(tensor).toEqual(values.get(some[i]!.name));
  // Pins the generator: if it changed, old jobs could not be reproduced.
  expect([...tensors[0]!.subarray(0, 3)]).toMatchInlineSnapshot(`
    [
      0.08117924630641937,
      0.0915599837899208,
      0.02154955454170704,
    ]
  `);
});

test.each([-1, 0.5, 2 ** 53])('refuses the seed %d', (seed) => {
  expect(() => initialMatrices(layout, seed)).toThrow(withCode('SEED'));
});
