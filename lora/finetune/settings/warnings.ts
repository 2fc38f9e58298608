/** Warnings about settings that are allowed but probably not intended. */

import type { SwarmError } from '../../../common/errors.ts';
import type { Device } from '../../engines/names.ts';
import { shareBatch } from '../../train/devices/shared-batch.ts';
import { type Schedule, warmupStepsOf } from '../../train/optimizer/schedule.ts';
import { finetuneError } from '../errors.ts';
import type { JobSpec } from './job-spec.ts';
import type { Layer, TrainSpec } from './settings.ts';

/** Settings that have no effect while another setting has a certain value. */
const IDLE: readonly {
  block: 'training' | 'run';
  key: string;
  /** Text that completes the sentence "FIELD has no effect while …". */
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
  { block: 'run', key: 'minDelta', while: 'patience is not set', is: ({ run }) => run.patience === null },
  {
    block: 'run',
    key: 'final',
    while: 'evaluateEvery is 0',
    is: ({ run }) => run.evaluateEvery === 0,
  },
];

/**
 * Returns a warning for each setting of the user that has no effect.
 * @param given settings that the user gave
 * @param spec settings of the run: the user's settings, with defaults for all others
 */
export function idleSettings(given: Layer, spec: TrainSpec): SwarmError[] {
  return IDLE.filter(({ block, key, is }) => given[block]?.[key] !== undefined && is(spec)).map((setting) => {
    const field = `${setting.block}.${setting.key}`;
    return finetuneError(
      'SETTING_IDLE',
      `${field} has no effect while ${setting.while}`,
      { field },
      { next: `leave out ${field}, or change the other setting` },
    );
  });
}

/** Returns a warning if the warm-up is longer than the whole run, else null. */
export function warmupWarning(schedule: Schedule): SwarmError | null {
  const steps = warmupStepsOf(schedule);
  const { totalSteps, learningRate } = schedule;
  if (steps <= totalSteps) return null;
  return finetuneError(
    'WARMUP_TOO_LONG',
    `the warm-up takes ${steps} steps, but training takes only ${totalSteps}, so the learning rate never reaches ${learningRate}`,
    { warmupSteps: steps, totalSteps },
  );
}

/** Returns a warning if the warm-up is longer than all rounds of a job, else null. */
export function jobWarmupWarning({
  training,
  rounds,
}: Pick<JobSpec, 'training' | 'rounds'>): SwarmError | null {
  return warmupWarning({ ...training, totalSteps: rounds.count * rounds.localSteps });
}

/** Returns a warning if a batch has fewer micro-batches than there are devices, else null. */
export function idleDevicesWarning(
  { batchSize, microBatch }: Pick<TrainSpec['training'], 'batchSize' | 'microBatch'>,
  devices: readonly Device[],
): SwarmError | null {
  const parts = Math.ceil(batchSize / microBatch);
  const idle = devices.length - parts;
  if (idle <= 0) return null;
  const { microBatch: rows } = shareBatch({ batchSize, microBatch }, devices.length);
  const [are, pieces] = [
    idle === 1 ? 'is' : 'are',
    parts === 1 ? 'one micro-batch' : `${parts} micro-batches`,
  ];
  const change =
    batchSize >= devices.length ? `start with --micro-batch ${rows}` : 'use a larger --batch-size';
  return finetuneError(
    'DEVICES_IDLE',
    `${idle} of the ${devices.length} devices ${are} idle, because a batch of ${batchSize} rows has only ${pieces} of ${microBatch} rows`,
    { devices: devices.length, parts },
    { next: `${change}, or name fewer devices in --engine` },
  );
}
