import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { presetJob, presetLayer } from '../../../../lora/finetune/preset.ts';
import { readJobFile } from '../../../../lora/finetune/settings/job-file.ts';
import { type Layer, mergeLayers } from '../../../../lora/finetune/settings/settings.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

const machine = { compute: processorCompute(), now: 0, signal: new AbortController().signal };

async function least(): Promise<Layer> {
  const dir = await temporaryFolder();
  await makeTinyModel(join(dir, 'model'));
  await writeFile(join(dir, 'text.txt'), TINY_TEXT.repeat(100));
  const texts = [join(dir, 'text.txt')];
  return { base: join(dir, 'model'), data: { train: texts, heldOut: texts } };
}

it('a preset chooses how often to measure if only patience is set', async () => {
  const { layer } = await presetLayer('auto', mergeLayers(await least(), { run: { patience: 3 } }), machine);
  expect(layer.run).toMatchObject({ evaluateEvery: expect.any(Number) });
  expect(layer.run).not.toHaveProperty('patience');
});

it('the choice of a rank ignores modules that are saved whole', async () => {
  // So few modules are adapted that the preset chooses more than the smallest rank, although there is little data.
  const few = { targets: ['q_proj'], layersToTransform: [0] };
  const layer = await least();
  const rankWith = async (lora: Layer['lora']) =>
    (await presetLayer('auto', mergeLayers(layer, { lora }), machine)).layer.lora!.rank;
  const rank = await rankWith(few);
  expect(rank).toBeGreaterThan(16);
  expect(await rankWith({ ...few, modulesToSave: ['lm_head', 'embed_tokens'] })).toBe(rank);
});

it('a preset counts the steps of the training data only, without the share that is held out', async () => {
  const layer = mergeLayers(await least(), {
    training: { batchSize: 1, sequenceLength: 16 },
    run: { epochs: 1 },
  });
  const every = async (heldOut: unknown) => {
    const one = { ...layer, data: { ...layer.data, heldOut } };
    return Number((await presetLayer('auto', one, machine)).layer.run!.evaluateEvery);
  };
  const all = await every(layer.data!.heldOut);
  expect(all).toBeGreaterThan(2);
  expect(Math.abs(2 * (await every(0.5)) - all)).toBeLessThanOrEqual(2);
});

it('a preset sets what a job file leaves open, and nothing else', async () => {
  const dir = await temporaryFolder();
  await makeTinyModel(join(dir, 'model'));
  await writeFile(join(dir, 'text.txt'), TINY_TEXT.repeat(5));
  const path = join(dir, 'job.yaml');
  await writeFile(
    path,
    `
name: tiny
base: model
data: { train: text.txt }
preset: auto
lora: { rank: 4 }
training: { warmupSteps: 3, sequenceLength: 32 }
rounds: { count: 20, localSteps: 10 }
`,
  );
  const { spec: read, written } = await readJobFile(path);
  expect(read.preset).toBe('auto');
  const { spec, choices } = await presetJob(written, read, { now: 0, signal: new AbortController().signal });
  expect(choices.map(({ field }) => field)).toEqual([
    'lora.alpha',
    'training.learningRate',
    'training.schedule',
  ]);
  const rate = choices.find(({ field }) => field === 'training.learningRate')!.value;
  expect(spec.lora).toMatchObject({ rank: 4, alpha: 32 });
  expect(spec.training).toMatchObject({
    learningRate: rate,
    schedule: 'cosine',
    warmupSteps: 3,
    warmupRatio: null,
    sequenceLength: 32,
    batchSize: 8,
    microBatch: 8,
  });
  expect({ ...spec, lora: 0, training: 0 }).toEqual({ ...read, lora: 0, training: 0 });
});
