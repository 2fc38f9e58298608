import { join } from 'node:path';
import { expect, it } from 'vitest';
import { engineError } from '../../../../lora/engines/errors.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { type ComputeOnDevices, processorCompute } from '../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';
import { estimateTraining } from '../../../../lora/train/memory/estimate.ts';
import { memoryOfTrainers } from '../../../../lora/train/memory/trainers.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { JobToTrain } from '../../../../node/trainer/job-to-train.ts';
import { TrainerSettings } from '../../../../node/trainer/trainer-settings.ts';
import { loraSchema } from '../../../../protocol/job/manifest.ts';

const modelDir = join(import.meta.dirname, '../../../../models/nano');
const lora = loraSchema.parse({ rank: 4, alpha: 8 });
const training = trainingConfigSchema.parse({
  batchSize: 8,
  microBatch: 8,
  sequenceLength: 128,
  totalSteps: 1,
  seed: 0,
});
const job: JobToTrain = { modelDir, cacheDir: '/none', lora, training, purpose: 'p', base: 'b' };

/** Returns a memory limit, in bytes, that leaves room for this many rows at a time on the processor, and not for twice as many. */
async function limitFor(microBatch: number, devices = processorCompute().devices): Promise<number> {
  const model = await openBase(modelDir);
  const compute = { ...processorCompute(), checkpointing: true, devices };
  const { memory } = estimateTraining(model, { lora, training: { ...training, microBatch }, compute });
  return 1.25 * memoryOfTrainers(memory, compute).total;
}

async function settingsOf(changes: Partial<ComputeOnDevices>): Promise<TrainerSettings> {
  const compute: ComputeOnDevices = { ...processorCompute(), checkpointing: true, ...changes };
  const settings = new TrainerSettings({ compute }, { log: silentLogger });
  settings.begin(job, compute, null);
  await settings.fitFirst(job, compute, { mappedBytes: 0 });
  return settings;
}

it('falls back from a GPU to the processor with a micro-batch that fits into the memory limit there', async () => {
  const settings = await settingsOf({ devices: [{ engine: 'onnx-webgpu' }], memoryLimit: await limitFor(2) });
  expect(settings.current!.training.microBatch).toBe(8);
  const fallback = settings.fallback(engineError('ENGINE_RUN', 'the device is gone', {}));
  expect(fallback).toMatchObject({ microBatch: 2, compute: { devices: [{ engine: 'onnx-cpu' }] } });
});

it('gives one note about the rows at a time, and advises fewer base bits only if there are fewer', async () => {
  const devices = [{ engine: 'onnx-cpu' }, { engine: 'onnx-cpu' }] as const;
  const shared = await settingsOf({ devices, memoryLimit: await limitFor(2, devices) });
  expect(shared.note!.match(/rows at a time/g)).toHaveLength(1);
  expect((await settingsOf({ memoryLimit: 1 })).note).toMatch(/--base-bits/);
  expect((await settingsOf({ memoryLimit: 1, baseBits: 4 })).note).not.toMatch(/--base-bits/);
});
