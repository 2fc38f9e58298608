import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type LoraConfig, loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { parsePeftConfig } from '../../../../lora/adapter/peft-config.ts';
import { adapterPlan } from '../../../../lora/adapter/plan.ts';
import type { Architecture } from '../../../../lora/models/architecture.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { llama } from '../../../../lora/models/families/llama.ts';
import { MAX_PATTERN_LENGTH } from '../../../../lora/models/patterns.ts';
import { knownNames, targetModules } from '../../../../lora/models/targets.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';
import { withCode } from '../../../utils/source/codes.ts';

const config = llama.parseConfig({
  model_type: 'llama',
  hidden_size: 8,
  intermediate_size: 16,
  num_attention_heads: 2,
  num_hidden_layers: 11,
  vocab_size: 10,
});
const model = { architecture: llama as Architecture, config };
const modules = llama.linearModules(config);
const names = (targets: string | string[], rules: Partial<LoraConfig> = {}) =>
  targetModules(model, { ...loraConfig({}), targets, ...rules }).map(({ name }) => name);
const refused = withCode('LORA_TARGETS');

test('all-linear means every linear module except the output head', () => {
  expect(modules).toHaveLength(11 * 7 + 1);
  expect(names('all-linear')).toEqual(modules.slice(0, -1).map(({ name }) => name));
});

test('a list entry matches a whole name, or the end of a name after a dot', () => {
  expect(names(['q_proj'])).toHaveLength(11);
  expect(names(['q_proj', 'v_proj', 'lm_head'])).toHaveLength(23);
  expect(names(['self_attn.q_proj'])).toHaveLength(11);
  expect(names(['1.self_attn.q_proj'])).toEqual(['model.layers.1.self_attn.q_proj']);
  expect(names(['model.layers.10.mlp.up_proj'])).toEqual(['model.layers.10.mlp.up_proj']);
  expect(() => names(['proj'])).toThrow(refused);
  expect(() => names(['_proj'])).toThrow(refused);
});

test('a string is a regular expression that must match the whole name', () => {
  expect(names('.*q_proj')).toHaveLength(11);
  expect(names(String.raw`.*\.(q|v)_proj`)).toHaveLength(22);
  expect(names(String.raw`model\.layers\.[0-3]\.mlp\..*`)).toHaveLength(12);
  expect(names('model.layers.1.self_attn.q_proj|lm_head')).toHaveLength(2);
  expect(() => names('q_proj')).toThrow(refused);
  expect(() => names('model')).toThrow(refused);
});

test('selects the same modules as PEFT', async () => {
  const { model, cases } = JSON.parse(await readFile(join(FIXTURES, 'peft-targets.json'), 'utf8')) as {
    model: string;
    cases: { targets: string | string[]; modules: string[] }[];
  };
  const tiny = await openBase(join(FIXTURES, model));
  for (const { targets, modules } of cases) {
    // PEFT ignores entries that match nothing. Here they are refused in a job, but ignored in an adapter folder.
    const known = typeof targets === 'string' ? targets : knownNames(tiny, targets);
    const ours = targetModules(tiny, loraConfig({ targets: known })).map(({ name }) => name);
    expect(ours.sort(), JSON.stringify(targets)).toEqual(modules);
  }
  expect(cases.length).toBeGreaterThan(10);
});

/** A case of scripts/reference/make_adapters.py: settings of PEFT, the modules that it adapts, and the tensors that it saves. */
interface PeftSelection {
  settings: Record<string, unknown> & { target_modules: string | string[] };
  /** Rank and scale. */
  modules: Record<string, [number, number]>;
  saved: string[];
}

const selections: Record<string, PeftSelection[]> = JSON.parse(
  readFileSync(join(FIXTURES, 'peft-modules.json'), 'utf8'),
);

describe.each(Object.entries(selections))(
  'selects modules, ranks and scales as PEFT does: %s',
  (folder, cases) => {
    test.each(cases)('$settings', async ({ settings, modules, saved }) => {
      const tiny = await openBase(join(FIXTURES, folder));
      const { lora } = parsePeftConfig({ peft_type: 'LORA', r: 6, lora_alpha: 12, ...settings }, tiny);
      const plan = adapterPlan(tiny, lora);
      const ours = Object.fromEntries(plan.modules.map(({ name, rank, scale }) => [name, [rank, scale]]));
      expect(ours).toEqual(modules);
      expect(plan.copies.map(({ tensor }) => tensor).sort()).toEqual(saved);
    });
  },
);

test("supports Python's named groups and text anchors", () => {
  expect(names(String.raw`\A.*\.(?P<digit>\d)(?P=digit)?\.mlp\.up_proj\Z`)).toHaveLength(10);
});

test('refuses targets that match nothing, are empty, malformed or too long', () => {
  expect(() => names(['q_proj', 'q_porj'])).toThrow(refused);
  expect(() => names([])).toThrow(refused);
  expect(() => names('(')).toThrow(withCode('LORA_PATTERN'));
  expect(() => names(`(${'x'.repeat(MAX_PATTERN_LENGTH)})?.*`)).toThrow(withCode('LORA_PATTERN'));
});

test('stops a pattern that would backtrack for years', () => {
  expect(() => names('(([a-z._0-9]*)*)*!')).toThrow(withCode('LORA_PATTERN'));
});

test('leaves out excluded modules, other layers and saved modules, like PEFT', () => {
  expect(names('all-linear', { excludeModules: ['mlp.up_proj', '3.self_attn.q_proj'] })).toHaveLength(
    77 - 11 - 1,
  );
  expect(() => names('all-linear', { excludeModules: '.*_proj|lm_head' })).toThrow(refused);
  expect(names('all-linear', { layersToTransform: [1, 10] })).toHaveLength(14);
  expect(names(['q_proj', 'lm_head'], { layersToTransform: [1] })).toEqual([
    'model.layers.1.self_attn.q_proj',
    'lm_head',
  ]);
  expect(() => names('all-linear', { layersToTransform: [11] })).toThrow(refused);
  expect(names('all-linear', { modulesToSave: ['mlp'] })).toHaveLength(44);
  expect(names(['q_proj', 'lm_head'], { modulesToSave: ['lm_head', 'proj'] })).toHaveLength(11);
});

test('refuses a target that is not a linear module', () => {
  expect(() => names(['q_proj', 'input_layernorm'])).toThrow(refused);
  expect(() => names('.*(norm|q_proj)')).toThrow(refused);
  expect(names(['q_proj', 'embed_tokens'])).toHaveLength(12);
});

test('knownNames keeps the entries that match a module of the model', () => {
  expect(knownNames(model, ['c_attn', 'q_proj', 'query_key_value'])).toEqual(['q_proj']);
});
