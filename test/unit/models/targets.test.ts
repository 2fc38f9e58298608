import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { llama } from '../../../lora/models/families/llama.ts';
import { openModel } from '../../../lora/models/model.ts';
import { knownTargets, MAX_PATTERN_LENGTH, matchTargets } from '../../../lora/models/targets.ts';
import { FIXTURES } from '../../utils/reference.ts';

const modules = llama.linearModules(
  llama.parseConfig({
    model_type: 'llama',
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 11,
    vocab_size: 10,
  }),
);
const names = (targets: string | string[]) => matchTargets(modules, targets).map(({ name }) => name);
const refused = expect.objectContaining({ code: 'LORA_TARGETS' });

test('all-linear is everything but the output head', () => {
  expect(modules).toHaveLength(11 * 7 + 1);
  expect(names('all-linear')).toEqual(modules.slice(0, -1).map(({ name }) => name));
});

test('a list entry matches a whole name or the end of one behind a dot', () => {
  expect(names(['q_proj'])).toHaveLength(11);
  expect(names(['q_proj', 'v_proj', 'lm_head'])).toHaveLength(23);
  expect(names(['self_attn.q_proj'])).toHaveLength(11);
  expect(names(['1.self_attn.q_proj'])).toEqual(['model.layers.1.self_attn.q_proj']);
  expect(names(['model.layers.10.mlp.up_proj'])).toEqual(['model.layers.10.mlp.up_proj']);
  expect(() => names(['proj'])).toThrow(refused);
  expect(() => names(['_proj'])).toThrow(refused);
});

test('a text is a regular expression that matches the whole name', () => {
  expect(names('.*q_proj')).toHaveLength(11);
  expect(names(String.raw`.*\.(q|v)_proj`)).toHaveLength(22);
  expect(names(String.raw`model\.layers\.[0-3]\.mlp\..*`)).toHaveLength(12);
  expect(names('model.layers.1.self_attn.q_proj|lm_head')).toHaveLength(2);
  expect(() => names('q_proj')).toThrow(refused);
  expect(() => names('model')).toThrow(refused);
});

test('the same modules as PEFT', async () => {
  const { model, cases } = JSON.parse(await readFile(join(FIXTURES, 'peft-targets.json'), 'utf8')) as {
    model: string;
    cases: { targets: string | string[]; modules: string[] }[];
  };
  const { architecture, config } = await openModel(join(FIXTURES, model));
  const linear = architecture.linearModules(config);
  for (const { targets, modules } of cases) {
    // PEFT passes over entries that match nothing; here a job with one is refused, an adapter folder is not.
    const known = typeof targets === 'string' ? targets : knownTargets(linear, targets);
    const ours = matchTargets(linear, known).map(({ name }) => name);
    expect(ours.sort(), JSON.stringify(targets)).toEqual(modules);
  }
  expect(cases.length).toBeGreaterThan(10);
});

test("Python's named groups and text ends", () => {
  expect(names(String.raw`\A.*\.(?P<digit>\d)(?P=digit)?\.mlp\.up_proj\Z`)).toHaveLength(10);
});

test('what matches nothing, is empty, malformed or too long is refused', () => {
  expect(() => names(['q_proj', 'q_porj'])).toThrow(refused);
  expect(() => names([])).toThrow(refused);
  expect(() => names('(')).toThrow(refused);
  expect(() => names(`(${'x'.repeat(MAX_PATTERN_LENGTH)})?.*`)).toThrow(refused);
});

test('a pattern that would run for years is given up', () => {
  expect(() => names('(([a-z._0-9]*)*)*!')).toThrow(refused);
});

test('the known ones of a list made for several models', () => {
  expect(knownTargets(modules, ['c_attn', 'q_proj', 'query_key_value'])).toEqual(['q_proj']);
});
