import { expect, it } from 'vitest';
import { finetuneError } from '../../../../../lora/finetune/errors.ts';
import { jobSpecSchema } from '../../../../../lora/finetune/settings/job-spec.ts';
import { type Layer, resolveSpec } from '../../../../../lora/finetune/settings/settings.ts';
import {
  idleDevicesWarning,
  idleSettings,
  jobWarmupWarning,
  warmupWarning,
} from '../../../../../lora/finetune/settings/warnings.ts';
import { trainingConfigSchema } from '../../../../../lora/train/config.ts';

const least = { base: '/base', data: { train: ['/data'], heldOut: ['/held-out'] } };
const idle = (given: Layer) =>
  idleSettings(given, resolveSpec({ ...least, ...given })).map(({ values }) => values.field);

it('warns about settings of the user that have no effect', () => {
  expect(idle({})).toEqual([]);
  expect(
    idle({
      training: { finalFraction: 0, weightDecayGroups: ['A'] },
      run: { minDelta: 0.1, final: 'best' },
    }),
  ).toEqual(['training.finalFraction', 'training.weightDecayGroups', 'run.minDelta', 'run.final']);
  expect(
    idle({
      training: { finalFraction: 0, weightDecayGroups: ['A'], schedule: 'cosine', weightDecay: 0.1 },
      run: { minDelta: 0.1, final: 'last', patience: 2, evaluateEvery: 10 },
    }),
  ).toEqual([]);
});

it('warns about a warm-up that is longer than the run', () => {
  const warning = (settings: object) => warmupWarning(trainingConfigSchema.parse(settings))?.code;
  expect(warning({ totalSteps: 19 })).toBe('WARMUP_TOO_LONG');
  expect(warning({ totalSteps: 20 })).toBeUndefined();
  expect(warning({ totalSteps: 5, warmupRatio: 1 })).toBeUndefined();
  expect(warning({ totalSteps: 1, warmupSteps: 0 })).toBeUndefined();
  const { next } = finetuneError.table.WARMUP_TOO_LONG;
  expect(next, 'names the flags and the keys').toMatch(/--warmup-ratio.*--warmup.*warmupRatio.*warmupSteps/);
  const { training, rounds } = jobSpecSchema.parse({
    name: 'job',
    base: 'base',
    data: { train: ['data'] },
    rounds: { count: 4, localSteps: 5 },
  });
  expect(jobWarmupWarning({ training, rounds })).toBeNull();
  expect(jobWarmupWarning({ training, rounds: { ...rounds, count: 3 } })?.code).toBe('WARMUP_TOO_LONG');
});

it('warns about idle devices, with a micro-batch that uses all of them', () => {
  const warning = (devices: number, batchSize: number, microBatch: number) =>
    idleDevicesWarning({ batchSize, microBatch }, Array(devices).fill({ engine: 'onnx-cpu' }));
  for (const enough of [warning(1, 8, 8), warning(2, 8, 4), warning(2, 8, 5), warning(3, 8, 1)])
    expect(enough).toBeNull();
  expect(warning(2, 8, 8)).toMatchObject({
    code: 'DEVICES_IDLE',
    values: { devices: 2, parts: 1 },
    next: expect.stringContaining('--micro-batch 4,'),
  });
  expect(warning(4, 8, 4)!.values).toEqual({ devices: 4, parts: 2 });
  // The advised micro-batch leaves no device idle.
  for (const devices of [2, 3, 5, 8]) {
    const [, rows] = /--micro-batch (\d+)/.exec(String(warning(devices, 8, 8)!.next))!;
    expect(warning(devices, 8, Number(rows))).toBeNull();
  }
  expect(warning(3, 2, 1)!.next).toContain('--batch-size');
});
