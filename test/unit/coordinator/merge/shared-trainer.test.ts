import { afterEach, expect, test, vi } from 'vitest';
import { SharedTrainer } from '../../../../coordinator/merge/shared-trainer.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

afterEach(() => vi.restoreAllMocks());

/** Runs a computation on a shared trainer, and returns the trainer. Starting its process has the result `started`. */
async function usedTrainer(started: Promise<unknown>): Promise<SharedTrainer> {
  vi.spyOn(TrainerProcess, 'start').mockReturnValue(started as Promise<TrainerProcess>);
  const { signal } = new AbortController();
  const compute = { ...processorCompute({ threads: 1 }), checkpointing: false };
  const trainer = new SharedTrainer({ modelDir: '', cacheDir: '', compute, onLog: () => {}, signal });
  const options = { signal, mustEnd: () => false };
  // The run fails or ends at once. The tests only need the process that it started.
  await trainer.run(toyJob(signerOf(1)), { compute, microBatch: 1 }, async () => {}, options).catch(() => {});
  return trainer;
}

test('a process that failed to start needs no stop', async () => {
  const trainer = await usedTrainer(Promise.reject(new Error('no such engine')));
  await expect(trainer.stop()).resolves.toBeUndefined();
});

test('reports a process that cannot be stopped', async () => {
  const error = new Error('the process does not end');
  const stop = vi.fn(() => Promise.reject(error));
  const trainer = await usedTrainer(Promise.resolve({ alive: true, stop }));
  await expect(trainer.stop()).rejects.toBe(error);
  await expect(trainer.stop()).resolves.toBeUndefined();
  expect(stop).toHaveBeenCalledOnce();
});
