import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readJobFile } from '../../../../../lora/finetune/settings/job-file.ts';
import { presetJob } from '../../../../../lora/finetune/settings/job-preset.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../../utils/models/tiny-model.ts';

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
