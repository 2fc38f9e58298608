import { finetuneError } from './errors.ts';
/** Settings that are allowed, and hardly what was meant. */

import type { SwarmError } from '../../common/errors.ts';
import type { Device } from '../engines/names.ts';
import { type Schedule, warmupStepsOf } from '../train/schedule.ts';
import { shareBatch } from '../train/shared-batch.ts';
import type { Layer, TrainSpec } from './settings.ts';

/** Settings by what makes them do nothing. */
const IDLE: readonly {
  block: 'training' | 'run';
  key: string;
  while: string;
  is(spec: TrainSpec): boolean;
}[] = [
  {
    block: 'training',
    key: 'finalFraction',
    while: 'the schedule is constant',
    is: ({ training }) => training.schedule === 'constant',
  },
  {
    block: 'training',
    key: 'weightDecayGroups',
    while: 'weightDecay is 0',
    is: ({ training }) => training.weightDecay === 0,
  },
  { block: 'run', key: 'minDelta', while: 'there is no patience', is: ({ run }) => run.patience === null },
  {
    block: 'run',
    key: 'final',
    while: 'no loss is measured on the way (evaluateEvery)',
    is: ({ run }) => run.evaluateEvery === 0,
  },
];

/** @param said in the file and on the command line; what it was filled up to is `spec` */
export function idleSettings(said: Layer, spec: TrainSpec): SwarmError[] {
  return IDLE.filter(({ block, key, is }) => said[block]?.[key] !== undefined && is(spec)).map((setting) => {
    const field = `${setting.block}.${setting.key}`;
    return finetuneError('SETTING_IDLE', `${field} does nothing while ${setting.while}`, { field });
  });
}

/** A warm-up that outlasts the run, or the job; null where it does not. */
export function warmupDoubt(schedule: Schedule): SwarmError | null {
  const steps = warmupStepsOf(schedule);
  const { totalSteps, learningRate } = schedule;
  if (steps <= totalSteps) return null;
  return finetuneError(
    'WARMUP_TOO_LONG',
    `the warm-up of ${steps} steps is longer than all ${totalSteps} that are made: the learning rate never reaches ${learningRate}`,
    { warmupSteps: steps, totalSteps },
    { next: 'shorten it: a warmupRatio of 0.1, or fewer warmupSteps' },
  );
}

/** Devices that get no part of any batch; null where there is a micro-batch for each. */
export function devicesDoubt(
  { batchSize, microBatch }: Pick<TrainSpec['training'], 'batchSize' | 'microBatch'>,
  devices: readonly Device[],
): SwarmError | null {
  const parts = Math.ceil(batchSize / microBatch);
  const idle = devices.length - parts;
  if (idle <= 0) return null;
  const { microBatch: rows } = shareBatch({ batchSize, microBatch }, devices.length);
  const [of, have] = [
    parts === 1 ? 'one micro-batch' : `${parts} micro-batches`,
    idle === 1 ? 'has' : 'have',
  ];
  return finetuneError(
    'DEVICES_IDLE',
    `${idle} of the ${devices.length} devices ${have} nothing to do: a batch of ${batchSize} rows is ${of} of ${microBatch}`,
    { devices: devices.length, parts },
    {
      next: `${batchSize >= devices.length ? `begin with --micro-batch ${rows}` : 'begin with a larger --batch-size'}, or name fewer devices in --engine`,
    },
  );
}
