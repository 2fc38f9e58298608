import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { decideForRun, memoryOf, memoryWarning } from '../../../../lora/finetune/memory.ts';
import { resolveSpec } from '../../../../lora/finetune/settings/settings.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base/base-model.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel } from '../../../utils/models/tiny-model.ts';

let model: BaseModel;
beforeEach(async () => {
  model = await openBase(await makeTinyModel(join(await temporaryFolder(), 'model')));
});

const training = { batchSize: 64, microBatch: 64, sequenceLength: 64 };
const spec = resolveSpec({ base: '/base', data: { train: ['/data'] }, training });
const oneRow = resolveSpec({ ...spec, training: { ...spec.training, microBatch: 1 } });
const open = { ...processorCompute(), checkpointing: 'auto' } as const;

/** Memory that is enough with gradient checkpointing only. */
function between(of = spec): number {
  const [without, with_] = [false, true].map(
    (checkpointing) => memoryOf(model, of, processorCompute({ checkpointing })).total,
  );
  return (1.25 * (without! + with_!)) / 2;
}

it('warns before a run that does not fit, with the figures and with settings that fit', () => {
  const compute = processorCompute();
  const { total } = memoryOf(model, spec, compute);
  expect(memoryWarning(model, spec, compute, 1.25 * total)).toBeNull();
  const warning = memoryWarning(model, spec, compute, 1.25 * total - 1)!;
  expect(warning).toMatchObject({ code: 'MEMORY_SHORT', values: { needed: total } });
  expect(warning.next).toMatch(/--micro-batch 32 .*--gradient-checkpointing/);
});

it('advises shorter rows if the process alone is too large', () => {
  expect(memoryWarning(model, spec, processorCompute(), 1000)!.next).toContain('--sequence-length');
});

it('does not warn about GPUs, which have their own memory', () => {
  const compute = processorCompute({ devices: [{ engine: 'onnx-cuda' }] });
  expect(memoryWarning(model, spec, compute, 1000)).toBeNull();
});

it('turns gradient checkpointing on if a run fits only with it, and then does not warn', () => {
  const available = between();
  const { compute, reason } = decideForRun(model, spec, open, available);
  expect(compute.checkpointing).toBe(true);
  expect(reason).toMatch(/\d+\.\d GB .*\d+\.\d GB/);
  expect(memoryWarning(model, spec, compute, available)).toBeNull();
  const enough = decideForRun(model, spec, open, 2 * available);
  expect(enough).toMatchObject({ compute: { checkpointing: false }, reason: null });
});

it('advises a micro-batch that fits only because gradient checkpointing turns itself on', () => {
  const available = between(oneRow);
  const next = (checkpointing: boolean | 'auto') => {
    const { compute } = decideForRun(model, spec, { ...open, checkpointing }, available);
    return memoryWarning(model, spec, compute, available)!.next;
  };
  const alone = /--micro-batch 1 (?!--)/;
  expect(next('auto')).toMatch(alone);
  expect(next(false)).not.toMatch(alone);
});

it('does not advise a setting that is on already', () => {
  const compute = processorCompute({ checkpointing: true });
  const { total } = memoryOf(model, oneRow, compute);
  const { next } = memoryWarning(model, oneRow, compute, 1.25 * total - 1)!;
  expect(next).not.toContain('--gradient-checkpointing');
  expect(next).not.toContain('--micro-batch');
});

describe('with several devices', () => {
  const devices = [{ engine: 'onnx-cpu' }, { engine: 'onnx-cpu' }] as const;
  const together = processorCompute({ devices });

  it('counts the memory of all of them', () => {
    const one = memoryOf(model, spec, processorCompute());
    const two = memoryOf(model, spec, together);
    expect(two).toMatchObject({ trainers: 2, activations: 2 * one.activations, weights: one.weights });
    const available = 1.25 * one.total;
    expect(memoryWarning(model, spec, processorCompute(), available)).toBeNull();
    const warning = memoryWarning(model, spec, together, available)!;
    expect(warning.message).toMatch(/ 2 /);
    expect(warning.values).toMatchObject({ needed: two.total });
    expect(warning.next).toContain('--engine onnx-cpu');
    expect(decideForRun(model, spec, open, available).compute.checkpointing).toBe(false);
    const decision = decideForRun(model, spec, { ...open, devices }, available);
    expect(decision.compute.checkpointing).toBe(true);
    expect(decision.reason).toContain('2 trainers');
  });

  it('counts little of the machine for each GPU', () => {
    const one = memoryOf(model, spec, processorCompute());
    const mixed = memoryOf(
      model,
      spec,
      processorCompute({ devices: [{ engine: 'onnx-cuda', device: 1 }, { engine: 'onnx-cpu' }] }),
    );
    expect(mixed.activations).toBe(one.activations);
    expect(mixed.total).toBeGreaterThan(one.total);
    expect(mixed.total).toBeLessThan(memoryOf(model, spec, together).total);
  });
});
