import { expect, it } from 'vitest';
import type { ComputeOnDevices } from '../../../../lora/train/compute.ts';
import type { MemoryEstimate } from '../../../../lora/train/memory/estimate.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { BaseTrainer, type BaseTrainerDeps } from '../../../../node/trainer/base-trainer.ts';
import type { JobToTrain } from '../../../../node/trainer/job-to-train.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

it('a trainer that was stopped starts no other process when a round ends later', async () => {
  const restarts: string[] = [];
  const deps = {
    clock: new ManualClock(),
    log: silentLogger,
    random: () => 0,
    meter: { stepMade: () => {}, trainerRestarted: (code: string) => restarts.push(code) },
    life: new AbortController().signal,
    isPaused: () => false,
    freeMemory: () => false,
    onUndeleted: () => {},
  } as unknown as BaseTrainerDeps;
  const trainer = new BaseTrainer({ home: '/none', compute: {} as never }, deps, {
    job: { training: {} } as JobToTrain,
    compute: { devices: [] } as unknown as ComputeOnDevices,
    reason: 'none',
    memory: { total: 1 } as MemoryEstimate,
    ended: Promise.reject(new Error('the process before this one did not end')),
    mappedBytes: 0,
  });
  await trainer.stop();
  await expect(trainer.living()).rejects.toMatchObject({ code: 'TRAINER_STOPPED' });
  expect(restarts).toEqual([]);
  expect(trainer.restarts).toBe(0);
});
