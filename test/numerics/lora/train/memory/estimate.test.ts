import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loraConfig } from '../../../../../lora/adapter/lora-config.ts';
import { createEngine } from '../../../../../lora/engines/engine.ts';
import type { BaseBits } from '../../../../../lora/models/base/base-bits.ts';
import { type BaseModel, openBase } from '../../../../../lora/models/base/base-model.ts';
import { prepareWeights, weightFileSuffix } from '../../../../../lora/models/weights/prepare-weights.ts';
import { DIGEST_BYTES } from '../../../../../lora/models/weights/weight-cache.ts';
import { processorCompute } from '../../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../../lora/train/config.ts';
import { measureSpeed, secondsPerStep } from '../../../../../lora/train/devices/speed.ts';
import { estimateTraining } from '../../../../../lora/train/memory/estimate.ts';
import { makeTinyModel } from '../../../../utils/models/tiny-model.ts';
import type { TrainingOptions } from '../../../../utils/models/tiny-trainer.ts';

let dir: string;
let model: BaseModel;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'estimate-'));
  model = await openBase(await makeTinyModel(join(dir, 'model')));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function estimate(options: TrainingOptions, rank = 4, checkpointing = false) {
  const training = trainingConfigSchema.parse({ sequenceLength: 32, ...options });
  return estimateTraining(model, {
    lora: loraConfig({ rank }),
    training,
    compute: processorCompute({ checkpointing }),
  });
}

describe('the estimate of a run', () => {
  it('counts the weights once, and the products of all micro-batches', () => {
    const whole = estimate({ batchSize: 8, microBatch: 8 });
    const parts = estimate({ batchSize: 8, microBatch: 2 });
    expect(whole.memory.weights).toBe(4 * model.parameters);
    expect(parts.memory.weights).toBe(whole.memory.weights);
    expect(parts.work.flopsPerStep).toBe(whole.work.flopsPerStep);
    expect(parts.memory.activations).toBeLessThan(0.3 * whole.memory.activations);
    // Forward and backward through the frozen weights: at least four FLOPs per weight and token.
    expect(whole.work.flopsPerStep).toBeGreaterThan(4 * 8 * 32 * 0.6 * model.parameters);
  });

  it('has the size of the weight file for an 8-bit or 4-bit base', async () => {
    const settings = {
      lora: loraConfig({ rank: 4 }),
      training: trainingConfigSchema.parse({ sequenceLength: 32 }),
    };
    const weights = (baseBits: BaseBits) =>
      estimateTraining(model, { ...settings, compute: processorCompute({ baseBits }) }).memory.weights;
    for (const bits of [8, 4] as const) {
      const { path } = await prepareWeights(model, join(dir, 'cache'), { bits });
      expect(path.endsWith(weightFileSuffix(bits))).toBe(true);
      expect(weights(bits) + DIGEST_BYTES).toBe((await stat(path)).size);
    }
  });

  it('gives products with frozen weights their own speed in float16 and in fewer bits', () => {
    const { work } = estimate({});
    expect(work.baseFlopsPerStep).toBeGreaterThan(0.3 * work.flopsPerStep);
    expect(work.baseFlopsPerStep).toBeLessThan(0.9 * work.flopsPerStep);
    const speed = { flops: 1e3, float16Flops: 2e3, bytes: 1e30, secondsPerOperation: 0 };
    const [plain, half] = [secondsPerStep(work, speed), secondsPerStep(work, speed, 'float16')];
    expect(half / plain).toBeCloseTo(1 - work.baseFlopsPerStep / work.flopsPerStep / 2, 3);
    const packed = secondsPerStep(work, { ...speed, baseFlops: 4e3 });
    expect(packed / plain).toBeCloseTo(1 - (3 / 4) * (work.baseFlopsPerStep / work.flopsPerStep), 3);
  });

  it('has less memory and more work with gradient checkpointing', () => {
    const plain = estimate({ sequenceLength: 64 });
    const saving = estimate({ sequenceLength: 64 }, 4, true);
    expect(saving.memory.activations).toBeLessThan(0.8 * plain.memory.activations);
    expect(saving.work.flopsPerStep).toBeGreaterThan(plain.work.flopsPerStep);
  });

  it('grows with the rank and the length of rows, and is the sum of its parts', () => {
    const small = estimate({}, 2);
    expect(estimate({}, 8).memory.adapter).toBe(4 * small.memory.adapter);
    expect(estimate({ sequenceLength: 64 }).memory.activations).toBeGreaterThan(2 * small.memory.activations);
    const { total, ...parts } = small.memory;
    expect(total).toBe(Object.values(parts).reduce((sum, bytes) => sum + bytes, 0));
  });

  it('becomes seconds with a measured speed', async () => {
    const { signal } = new AbortController();
    const engine = await createEngine('onnx-cpu', { threads: 1 });
    const speed = await measureSpeed(engine, { tokens: 64, width: 32, signal });
    expect(speed.flops).toBeGreaterThan(1e6);
    expect(speed.bytes).toBeGreaterThan(1e6);
    const { work } = estimate({});
    expect(secondsPerStep(work, speed)).toBeGreaterThan(0);
    const slower = { ...speed, flops: speed.flops / 2, bytes: speed.bytes / 2 };
    expect(secondsPerStep(work, slower)).toBeGreaterThan(secondsPerStep(work, speed));
    expect(secondsPerStep(work, slower)).toBeLessThan(2 * secondsPerStep(work, speed));
  });
});
