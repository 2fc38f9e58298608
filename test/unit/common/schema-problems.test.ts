import { expect, it } from 'vitest';
import { parseJobSpec } from '../../../lora/finetune/settings/job-spec.ts';

const MINIMAL = { name: 'whale', base: '/base', data: { train: '/data' } };

function messageOf(spec: unknown): string {
  try {
    parseJobSpec(spec);
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}

it.each([
  [{ rounds: { count: 'many' } }, ['rounds.count', '"many"', ' 1 ', '1000000']],
  [{ training: { learningRate: 5 } }, ['training.learningRate', ' 5', 'above 0 ', ' 1']],
  [{ training: { betas: [0.9, 2] } }, ['training.betas.1', ' 2', ' 0 ', 'below 1']],
  [{ training: { betas: [0.9] } }, ['training.betas', '[0.9]', ' 2']],
  [{ rounds: { preset: 'huge' } }, ['rounds.preset', '"huge"', '"tiny"', '"auto"']],
  [{ admission: 'secret' }, ['admission', '"secret"', '"open"', '"invite"']],
  [{ training: { warmupRatio: 'a' } }, ['training.warmupRatio', '"a"', ' 0 ', ' 1 ', 'null']],
  [{ base: undefined }, ['base', 'path']],
  [{ data: 'x' }, ['data', '"x"', 'train, heldOut']],
  [{ lora: { targets: 'q', layersToTransform: [1] } }, ['lora.layersToTransform', '[1]']],
  [{ lora: { rankPattern: { q: 'x' } } }, ['lora.rankPattern', ' 1']],
  [{ data: { train: '/d', templateVariables: { a: [] } } }, ['data.templateVariables.a', '[]', 'true']],
  [{ name: 'x'.repeat(500) }, ['name', 'xxx…']],
])('names the field, its value and the allowed values: %j', (part, parts) => {
  const text = messageOf({ ...MINIMAL, ...part });
  for (const expected of parts) expect(text).toContain(expected);
  expect(text).not.toContain('undefined');
});

it.each([
  [{ rounds: { cuont: 5 } }, '"rounds.count"'],
  [{ count: 5 }, '"rounds.count"'],
  [{ lerningRate: 5, training: { lerningRate: 5 } }, '"training.learningRate"'],
  [{ rounds: { colour: 5 } }, 'rounds.minPeers'],
])('suggests a key by its full name, which `job set` and `--set` take: %j', (part, name) => {
  expect(messageOf({ ...MINIMAL, ...part })).toContain(name);
});
