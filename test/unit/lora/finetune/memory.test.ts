import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { checkpointingOf, memoryDoubt, memoryOf } from '../../../../lora/finetune/memory.ts';
import { resolveSpec } from '../../../../lora/finetune/settings.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base-model.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel } from '../../../utils/tiny-model.ts';

let model: BaseModel;
beforeEach(async () => {
  model = await openBase(await makeTinyModel(join(await temporaryFolder(), 'model')));
});

const training = { batchSize: 64, microBatch: 64, sequenceLength: 64 };
const spec = resolveSpec({ base: '/base', data: { train: ['/data'] }, training });

it('what does not fit is told before it begins, with figures and what would fit', () => {
  const { total } = memoryOf(model, spec);
  const onProcessor = {};
  expect(memoryDoubt(model, spec, onProcessor, 1.25 * total)).toBeNull();
  const doubt = memoryDoubt(model, spec, onProcessor, 1.25 * total - 1)!;
  expect(doubt).toMatchObject({ code: 'MEMORY_SHORT', values: { needed: total } });
  expect(doubt.next).toMatch(/--micro-batch 32 \(the same result\), or --gradient-checkpointing/);
  // Nothing makes a process smaller than what it takes to be one.
  expect(memoryDoubt(model, spec, onProcessor, 1000)!.next).toContain('--sequence-length');
  // A GPU has memory of its own.
  expect(memoryDoubt(model, spec, { devices: [{ engine: 'onnx-cuda' }] }, 1000)).toBeNull();
});

it('gradient checkpointing is on where a run does not fit without; then nothing is told to be short', () => {
  const machine = { devices: [{ engine: 'onnx-cpu' }], baseBits: 32 } as const;
  const [without, with_] = [false, true].map(
    (checkpointing) => memoryOf(model, spec, { checkpointing }).total,
  );
  const available = (1.25 * (without! + with_!)) / 2;
  const { checkpointing, reason } = checkpointingOf(model, spec, { asked: 'auto', ...machine, available });
  expect(checkpointing).toBe(true);
  expect(reason).toMatch(
    /^without it this would take \d+\.\d GB and a quarter to spare, of \d+\.\d GB available$/,
  );
  expect(memoryDoubt(model, spec, { ...machine, checkpointing }, available)).toBeNull();
  const enough = checkpointingOf(model, spec, { asked: 'auto', ...machine, available: 2 * without! });
  expect(enough).toEqual({ checkpointing: false, reason: null });
});

it('what fits only with gradient checkpointing, which turns itself on, is offered too', () => {
  const onProcessor = { devices: [{ engine: 'onnx-cpu' }], baseBits: 32 } as const;
  const one = resolveSpec({ ...spec, training: { ...spec.training, microBatch: 1 } });
  const [without, with_] = [false, true].map(
    (checkpointing) => memoryOf(model, one, { checkpointing }).total,
  );
  const available = (1.25 * (without! + with_!)) / 2;
  const doubt = (asked: boolean | 'auto') => {
    const { checkpointing } = checkpointingOf(model, spec, { asked, ...onProcessor, available });
    return memoryDoubt(model, spec, { ...onProcessor, checkpointing }, available)!;
  };
  expect(doubt('auto').next).toBe('what fits: --micro-batch 1 (the same result)');
  expect(doubt(false).next).not.toContain('(the same result)');
});

it('what is a choice already is not offered again', () => {
  const one = resolveSpec({ ...spec, training: { ...spec.training, microBatch: 1 } });
  const settings = { checkpointing: true };
  const { total } = memoryOf(model, one, settings);
  const next = memoryDoubt(model, one, settings, 1.25 * total - 1)!.next;
  expect(next).not.toContain('--gradient-checkpointing');
  expect(next).not.toContain('--micro-batch');
});

describe('several devices', () => {
  const devices = [{ engine: 'onnx-cpu' }, { engine: 'onnx-cpu' }] as const;
  const one = (checkpointing: boolean) => memoryOf(model, spec, { checkpointing });

  it('count together, in what is told and in what is decided', () => {
    const { total } = one(false);
    const two = memoryOf(model, spec, { devices });
    expect(two).toMatchObject({ trainers: 2, activations: 2 * one(false).activations });
    expect(two.weights).toBe(one(false).weights);
    const available = 1.25 * total;
    // What is enough for one of them is not for both.
    expect(memoryDoubt(model, spec, {}, available)).toBeNull();
    const doubt = memoryDoubt(model, spec, { devices }, available)!;
    expect(doubt.message).toMatch(/^this run takes about [\d.]+ [GM]B of memory in 2 trainer processes and/);
    expect(doubt.values).toMatchObject({ needed: two.total });
    expect(doubt.next).toContain('--engine onnx-cpu');
    const asked = { asked: 'auto', baseBits: 32, available } as const;
    expect(checkpointingOf(model, spec, { ...asked, devices: [devices[0]] }).checkpointing).toBe(false);
    const { checkpointing, reason } = checkpointingOf(model, spec, { ...asked, devices });
    expect(checkpointing).toBe(true);
    expect(reason).toMatch(/^without it 2 trainers would take/);
  });

  it('with GPUs among them take of the machine what the processor needs, and little for each GPU', () => {
    const mixed = memoryOf(model, spec, {
      devices: [{ engine: 'onnx-cuda', device: 1 }, { engine: 'onnx-cpu' }],
    });
    expect(mixed.activations).toBe(one(false).activations);
    expect(mixed.total).toBeGreaterThan(one(false).total);
    expect(mixed.total).toBeLessThan(memoryOf(model, spec, { devices }).total);
  });
});
