import { expect, it } from 'vitest';
import { idleSettings, warmupDoubt } from '../../../../cli/train/doubts.ts';
import { type Layer, resolveSpec } from '../../../../cli/train/settings.ts';
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
