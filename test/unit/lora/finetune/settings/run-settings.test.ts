import { describe, expect, it } from 'vitest';
import {
  computeInputOf,
  differences,
  type RunSettings,
  storedCompute,
} from '../../../../../lora/finetune/settings/run-settings.ts';
import { type ComputeOnDevices, parseCompute } from '../../../../../lora/train/compute.ts';
import { trainingState } from '../../../../utils/swarm/checkpoints.ts';

describe('a resumed run with other settings', () => {
  const before = trainingState(1).state.settings as RunSettings;
  const fields = (now: RunSettings) => differences(before, now).map(({ field }) => field);
  const spec = (change: object) => ({ ...before, spec: { ...before.spec, ...change } }) as RunSettings;

  it('lists the differences', () => {
    expect(fields(before)).toEqual([]);
    expect(fields(spec({ training: { ...before.spec.training, learningRate: 1 } }))).toEqual([
      'training.learningRate',
    ]);
    expect(fields({ ...before, rows: 'other' })).toEqual(['data.train']);
    expect(fields({ ...before, base: 'other', heldOut: 'x', baseBits: 8 as const })).toEqual([
      'baseBits',
      'base',
      'data.heldOut',
    ]);
  });

  it('may change length, checkpoints, devices and paths', () => {
    const kept = { checkpointEvery: 7, keepCheckpoints: 9, final: 'last' as const };
    const run = { ...before.spec.run, ...kept, steps: 7, epochs: 9 };
    const devices = { engine: 'onnx-cuda' as const, device: 1, alongside: [{ engine: 'onnx-cpu' as const }] };
    const machine = { ...devices, threads: 8, checkpointing: 'auto' as const, totalSteps: 5 };
    expect(fields({ ...spec({ run, base: '/elsewhere' }), ...machine })).toEqual([]);
    const moved = { ...before.spec.data, train: ['/other/place'] };
    expect(fields(spec({ data: moved }))).toEqual([]);
  });

  it('may change from float16 to float32, but not back', () => {
    const inFloat16 = { ...before, precision: 'float16' as const };
    expect(differences(inFloat16, before)).toEqual([]);
    expect(differences(before, inFloat16)).toEqual([
      { field: 'precision', before: 'float32', now: 'float16' },
    ]);
  });
});

it('a compute survives a checkpoint', () => {
  const input = {
    engine: 'onnx-cuda:1,onnx-cpu',
    threads: 3,
    baseBits: 8,
    gradientCheckpointing: false,
  } as const;
  const compute = parseCompute(input) as ComputeOnDevices;
  const before = trainingState(1).state.settings as RunSettings;
  const stored = JSON.parse(JSON.stringify({ ...before, ...storedCompute(compute) })) as RunSettings;
  expect(stored).toMatchObject({ engine: 'onnx-cuda', device: 1, alongside: [{ engine: 'onnx-cpu' }] });
  expect(parseCompute(computeInputOf(stored))).toEqual(compute);
});
