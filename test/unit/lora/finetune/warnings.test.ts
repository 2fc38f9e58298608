import { expect, it } from 'vitest';
import { type Layer, resolveSpec } from '../../../../lora/finetune/settings.ts';
import { devicesDoubt, idleSettings, warmupDoubt } from '../../../../lora/finetune/warnings.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';

const least = { base: '/base', data: { train: ['/data'], heldOut: ['/held-out'] } };
const idle = (said: Layer) =>
  idleSettings(said, resolveSpec({ ...least, ...said })).map(({ values }) => values.field);

it('settings that do nothing are told, and only those that were said', () => {
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

it('a warm-up that outlasts the run is told', () => {
  const doubt = (settings: object) => warmupDoubt(trainingConfigSchema.parse(settings))?.code;
  expect(doubt({ totalSteps: 19 })).toBe('WARMUP_TOO_LONG');
  expect(doubt({ totalSteps: 20 })).toBeUndefined();
  expect(doubt({ totalSteps: 5, warmupRatio: 1 })).toBeUndefined();
  expect(doubt({ totalSteps: 1, warmupSteps: 0 })).toBeUndefined();
});

it('devices that get no part of a batch are told, and with which micro-batch they would', () => {
  const doubt = (devices: number, batchSize: number, microBatch: number) =>
    devicesDoubt({ batchSize, microBatch }, Array(devices).fill({ engine: 'onnx-cpu' }));
  for (const enough of [doubt(1, 8, 8), doubt(2, 8, 4), doubt(2, 8, 5), doubt(3, 8, 1)])
    expect(enough).toBeNull();
  expect(doubt(2, 8, 8)).toMatchObject({
    code: 'DEVICES_IDLE',
    message: '1 of the 2 devices has nothing to do: a batch of 8 rows is one micro-batch of 8',
    next: expect.stringContaining('--micro-batch 4,'),
  });
  expect(doubt(4, 8, 4)!.message).toContain(
    '2 of the 4 devices have nothing to do: a batch of 8 rows is 2 micro',
  );
  // The micro-batch that is named is one for each.
  for (const devices of [2, 3, 5, 8]) {
    const [, rows] = /--micro-batch (\d+)/.exec(String(doubt(devices, 8, 8)!.next))!;
    expect(doubt(devices, 8, Number(rows))).toBeNull();
  }
  expect(doubt(3, 2, 1)!.next).toContain('--batch-size');
});
