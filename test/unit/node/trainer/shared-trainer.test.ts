import { beforeEach, describe, expect, test } from 'vitest';
import { sleep } from '../../../../common/time/deadline.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';
import type { TrainProgress, TrainResult } from '../../../../lora/train/trainer.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import { SharedTrainer } from '../../../../node/trainer/shared-trainer.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from '../../../../node/trainer/trainer.ts';
import { FAILED_PAUSE_MS } from '../../../../node/trainer/trainer-share.ts';
import type { Manifest } from '../../../../protocol/job/manifest.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const ROUND_MS = 1_000;
const live = new AbortController().signal;
const options = { signal: live, onProgress: () => {} };
const task = { rows: [], steps: 1 } as unknown as TrainTask;

/** Calls of the trainer, in order. */
let calls: string[];
let clock: VirtualClock;
let shared: SharedTrainer;
let pauses: Pauses;

const jobOf = (name: string, base = 'base') =>
  ({ name, base: { digest: base }, training: { batchSize: 4 } }) as Manifest;
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
      if (name === 'large') await sleep(clock, ROUND_MS, live);
      return layoutOf(name);
    },
    keepBases: async () => {
      calls.push('keep bases');
    },
    releaseMemory: async () => {},
    train: async (_task, { signal }) => {
      calls.push('train');
      await sleep(clock, ROUND_MS, signal);
      return { result: { steps: 1, seconds: ROUND_MS / 1000 } } as TrainedRound;
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

test('a job that cannot be prepared takes the trainer from other jobs less and less often', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  await a.prepare(jobOf('a'), { signal: live });
  const broken = jobOf('broken');
  calls = [];
  // The node tries to join every 30 s.
  for (let attempt = 0; attempt < 60; attempt++) {
    await expect(b.prepare(broken, { signal: live })).rejects.toThrow('cannot be trained');
    await pass(30_000);
  }
  const attempts = Math.ceil(Math.log2((60 * 30_000) / FAILED_PAUSE_MS + 1));
  expect(calls).toEqual(Array(attempts).fill('prepare broken'));
});

test('a job that has been prepared before does not take the trainer when it joins again', async () => {
  const [a, b] = [shared.share(1), shared.share(1)];
  const job = jobOf('a');
  await a.prepare(job, { signal: live });
  await b.prepare(jobOf('b'), { signal: live });
  expect(await a.prepare(job, { signal: live })).toEqual(layoutOf('a'));
  expect(calls).toEqual(['prepare a', 'prepare b']);
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
  await expect(training).rejects.toBe(stop.signal.reason);
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

test('a job whose base was unloaded during its preparation is prepared again', async () => {
  const a = shared.share(1);
  const preparing = a.prepare(jobOf('large'), { signal: live });
  // The test awaits `preparing` later.
  preparing.catch(() => {});
  await pass(ROUND_MS / 2);
  await a.releaseMemory(new Set());
  await pass(ROUND_MS);
  await expect(preparing).rejects.toMatchObject({ code: 'TRAINER_NOT_PREPARED' });
  const again = a.prepare(jobOf('large'), { signal: live });
  await pass(ROUND_MS / 2);
  await a.releaseMemory(new Set([jobOf('large').base.digest]));
  await pass(ROUND_MS);
  expect(await again).toEqual(layoutOf('large'));
  expect(calls).toEqual(['prepare large', 'prepare large']);
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
  // A real trainer would pause the running round. Here, the round continues to its end.
  await pass(10 * ROUND_MS);
  await training;
  expect(calls).toEqual(['prepare a', 'train']);
  expect([a.hasTurn, b.hasTurn]).toEqual([false, false]);
  pauses.set(null);
  await waiting;
  expect(calls).toEqual(['prepare a', 'train', 'prepare b']);
});

describe('a round of a node with several jobs', () => {
  const STEP_MS = 1_000;
  const STEPS = 300;
  const rows = Array.from({ length: 4 * STEPS }, (_, i) => i) as unknown as TrainTask['rows'];

  /** Makes a trainer whose adapter depends on the order of all rows that it trained on. It reports each step. */
  function setUp() {
    const trainer: NodeTrainer = {
      engine: 'fake',
      note: null,
      restarts: 0,
      prepare: async ({ name }) => layoutOf(name),
      keepBases: async () => {},
      releaseMemory: async () => {},
      stop: async () => {},
      train: async ({ adapter, rows: part, steps, optimizer, position }, { signal, onProgress }) => {
        calls.push(`${steps} steps from ${position?.start} + ${position?.done ?? 0}`);
        let value = adapter[0]![0]!;
        const result: TrainResult = {
          steps,
          tokens: 4 * steps,
          seconds: steps,
          lossFirst: 1,
          lossLast: 1,
          lossMean: 1,
        };
        for (let step = 1; step <= steps; step++) {
          await sleep(clock, STEP_MS, signal);
          for (const row of part.slice(4 * (step - 1), 4 * step)) value = (value * 31 + Number(row)) % 1_009;
          onProgress({
            ...result,
            step,
            steps,
            rows: 4 * step,
            tokens: 4 * step,
          } as unknown as TrainProgress);
        }
        return {
          adapter: [Float32Array.of(value)],
          optimizer: { ...optimizer, step: optimizer.step + steps },
          result,
        };
      },
    };
    return new SharedTrainer({ trainer, scoreTrainer: null, clock, pauses });
  }
  const round = (steps: number): TrainTask => ({
    adapter: [Float32Array.of(1)],
    rows: rows.slice(0, 4 * steps),
    steps,
    optimizer: { step: 7, m: [], v: [] },
    position: { start: 100, perStep: 2 },
  });

  test('lets a job with an earlier deadline train in between, and gives the same adapter', async () => {
    const shared = setUp();
    const [a, b] = [shared.share(1), shared.share(1)];
    await a.prepare(jobOf('a'), { signal: live });
    await b.prepare(jobOf('b'), { signal: live });
    const steps: number[] = [];
    const start = clock.monotonic();
    let doneAfter = 0;
    const long = a.train(round(STEPS), {
      ...options,
      onProgress: ({ step, steps: all, rows: used }) => {
        expect([all, used]).toEqual([STEPS, 4 * step]);
        steps.push(step);
      },
      dueInMs: 86_400_000,
    });
    const short = b.train(round(10), { ...options, dueInMs: 200_000 }).then(() => {
      doneAfter = clock.monotonic() - start;
    });
    await pass(2 * STEPS * STEP_MS);
    await short;
    expect(doneAfter).toBeLessThan(200_000);
    const { adapter, optimizer, result } = await long;
    expect(steps).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
    expect(optimizer.step).toBe(7 + STEPS);
    expect(result).toMatchObject({ steps: STEPS, tokens: 4 * STEPS, seconds: STEPS });

    // A node with only this job trains the round without a break. The adapter must be the same.
    calls = [];
    const alone = setUp().share(1);
    await alone.prepare(jobOf('a'), { signal: live });
    const whole = alone.train(round(STEPS), options);
    await pass(STEPS * STEP_MS);
    expect((await whole).adapter).toEqual(adapter);
    expect(calls).toEqual([`${STEPS} steps from 100 + 0`]);
  });

  test('ends before a node that drains stops, although another job interrupts it', async () => {
    const shared = setUp();
    const [a, b] = [shared.share(1), shared.share(1)];
    await a.prepare(jobOf('a'), { signal: live });
    await b.prepare(jobOf('b'), { signal: live });
    const long = a.train(round(STEPS), { ...options, dueInMs: 86_400_000 });
    const short = b.train(round(10), { ...options, dueInMs: 1_000 });
    short.catch(() => {});
    await pass(10 * STEP_MS);
    pauses.drain();
    await pass(2 * STEPS * STEP_MS);
    expect((await long).result.steps).toBe(STEPS);
    expect(b.hasTurn).toBe(false);
  });

  test('has a first slice of one step, and then slices of about 20 s', async () => {
    const shared = setUp();
    const a = shared.share(1);
    shared.share(1);
    await a.prepare(jobOf('a'), { signal: live });
    const training = a.train(round(50), options);
    await pass(50 * STEP_MS);
    await training;
    expect(calls).toEqual([
      '1 steps from 100 + 0',
      '20 steps from 100 + 1',
      '20 steps from 100 + 21',
      '9 steps from 100 + 41',
    ]);
  });
});
