import { beforeEach, expect, test } from 'vitest';
import { sleep } from '../../../../common/deadline.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import { SharedTrainer } from '../../../../node/sharing/shared-trainer.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from '../../../../node/trainer.ts';
import type { Manifest } from '../../../../protocol/manifest.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const ROUND_MS = 1_000;
const live = new AbortController().signal;
const options = { signal: live, onProgress: () => {} };
const task = {} as TrainTask;

/** Calls of the trainer, in order. */
let calls: string[];
let clock: VirtualClock;
let shared: SharedTrainer;
let pauses: Pauses;

const jobOf = (name: string, base = 'base') => ({ name, base: { digest: base } }) as Manifest;
const layoutOf = (name: string): AdapterLayout => [{ name, shape: [1, 1], group: 'A' }];

beforeEach(() => {
  calls = [];
  clock = new VirtualClock(0);
  const trainer: NodeTrainer = {
    engine: 'fake',
    note: null,
    restarts: 0,
    prepare: async ({ name }) => {
      calls.push(`prepare ${name}`);
      if (name === 'broken') throw new Error('this job cannot be trained');
      return layoutOf(name);
    },
    keepBases: async () => {
      calls.push('keep bases');
    },
    train: async (_task, { signal }) => {
      calls.push('train');
      await sleep(clock, ROUND_MS, signal);
      return {} as TrainedRound;
    },
    stop: async () => {},
  };
  pauses = new Pauses();
  shared = new SharedTrainer({ trainer, scoreTrainer: null, clock, pauses });
});

const pass = (ms: number) => clock.run(() => false, ms);

test('a job prepares the trainer for its round only if another job had it before', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  expect(await a.prepare(jobOf('a'), { signal: live })).toEqual(layoutOf('a'));
  for (let round = 0; round < 2; round++) {
    const training = a.train(task, options);
    await pass(ROUND_MS);
    await training;
  }
  expect(calls).toEqual(['prepare a', 'train', 'train']);
  await b.prepare(jobOf('b'), { signal: live });
  const training = a.train(task, options);
  await pass(ROUND_MS);
  await training;
  expect(calls.slice(3)).toEqual(['prepare b', 'prepare a', 'train']);
});

test('a job that waits names the job that has the trainer, and reports each change', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  await a.prepare(jobOf('a'), { signal: live });
  const reports: (string | null)[] = [];
  b.onWait = () => reports.push(b.busyWith);
  a.onWait = () => reports.push('a waits');
  const training = a.train(task, options);
  const preparing = b.prepare(jobOf('b'), { signal: live });
  expect(a.busyWith).toBeNull();
  expect(b.busyWith).toBe('a');
  await pass(ROUND_MS);
  await Promise.all([training, preparing]);
  expect(b.busyWith).toBeNull();
  expect(reports).toEqual(['a', null]);
});

test('a job whose preparation fails gives the trainer back, and the next job is prepared again', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  await a.prepare(jobOf('a'), { signal: live });
  await expect(b.prepare(jobOf('broken'), { signal: live })).rejects.toThrow('cannot be trained');
  const training = a.train(task, options);
  await pass(ROUND_MS);
  await training;
  expect(calls).toEqual(['prepare a', 'prepare broken', 'prepare a', 'train']);
});

test('an aborted round gives the trainer to the job that waits', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  await a.prepare(jobOf('a'), { signal: live });
  const stop = new AbortController();
  const training = a.train(task, { ...options, signal: stop.signal });
  training.catch(() => {});
  const preparing = b.prepare(jobOf('b'), { signal: live });
  await pass(10);
  stop.abort(new Error('a newer head'));
  await expect(training).rejects.toThrow('a newer head');
  expect(await preparing).toEqual(layoutOf('b'));
});

test('a job is prepared again after its base was deleted', async () => {
  const a = shared.share(1);
  await a.prepare(jobOf('a'), { signal: live });
  await a.keepBases(new Set(['another base']));
  const training = a.train(task, options);
  await pass(ROUND_MS);
  await training;
  expect(calls).toEqual(['prepare a', 'keep bases', 'prepare a', 'train']);
});

test('a job that was never prepared trains nothing', async () => {
  await expect(shared.share(1).train(task, options)).rejects.toMatchObject({ code: 'TRAINER_NOT_PREPARED' });
});

test('no turn begins while the node is paused, also for a job that waited for its turn already', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  await a.prepare(jobOf('a'), { signal: live });
  const training = a.train(task, options);
  const waiting = b.prepare(jobOf('b'), { signal: live });
  await pass(1);
  pauses.set({ reason: 'paused', text: '', until: null });
  // The trainer itself pauses the running round. Here, the round goes on to its end.
  await pass(10 * ROUND_MS);
  await training;
  expect(calls).toEqual(['prepare a', 'train']);
  expect([a.hasTurn, b.hasTurn]).toEqual([false, false]);
  pauses.set(null);
  await waiting;
  expect(calls).toEqual(['prepare a', 'train', 'prepare b']);
});
