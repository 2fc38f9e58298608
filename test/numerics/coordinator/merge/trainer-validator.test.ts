import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import type { ValidationJob } from '../../../../coordinator/context.ts';
import { TrainerValidator } from '../../../../coordinator/merge/trainer-validator.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { encodeShards } from '../../../../lora/data/shards/shard-codec.ts';
import { layOutBase } from '../../../../lora/models/base/base-folder.ts';
import { parseCompute } from '../../../../lora/train/compute.ts';
import { freshOptimizer } from '../../../../lora/train/optimizer/optimizer-state.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import { zeros } from '../../../../lora/update/format.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { encodeCbor } from '../../../../protocol/cbor.ts';
import type { Manifest } from '../../../../protocol/job/manifest.ts';
import { measureGoneGpu, type TinyBase, tinyBase } from '../../../utils/models/tiny-base.ts';

const DYING_TRAINER = new URL('../../../utils/models/dying-trainer.ts', import.meta.url);
const ROWS = 4;

interface Bench extends TinyBase {
  job: ValidationJob;
  adapter: Float32Array[];
  validator: (engine?: string) => TrainerValidator;
  evaluate: (validator: TrainerValidator, job?: ValidationJob) => Promise<number[]>;
  /** Reasons of the fallbacks. */
  told: string[];
}

let bench: Bench;
beforeEach(async () => {
  const base = await tinyBase();
  const { home, blobs, manifest, layout, rows } = base;
  const { signal } = new AbortController();
  const heldOut = encodeCbor(encodeShards(rows.slice(0, ROWS)));
  const job = { job: 'a'.repeat(64), manifest };
  const adapter = zeros(layout);
  const told: string[] = [];
  bench = {
    ...base,
    job,
    adapter,
    told,
    validator: (engine = 'onnx-cpu') => {
      const pathOf = (digest: string): string => blobs.path(digest);
      const baseFolder = (of: Manifest['base']) => layOutBase({ home, base: of, pathOf });
      const deps = { baseFolder, clock: systemClock, log: silentLogger, heldOut: () => heldOut };
      const validator = new TrainerValidator({ home, compute: parseCompute({ engine, threads: 1 }) }, deps);
      onTestFinished(() => validator.stop());
      return validator;
    },
    evaluate: async (validator, of = job) => {
      const onFallback = (because: string) => told.push(because);
      return (await validator.evaluate(of, adapter, { signal, onFallback })).map(({ lossSum }) => lossSum);
    },
  };
});

/**
 * Makes trainers kill themselves.
 * @param lives number of evaluations that each trainer in turn answers before it dies, such as `0,1`
 */
async function trainersDie(lives: string): Promise<void> {
  const folder = join(bench.home, 'lives');
  await mkdir(folder);
  vi.stubEnv('NODE_OPTIONS', `--import ${DYING_TRAINER}`);
  vi.stubEnv('DYING_TRAINER', folder);
  vi.stubEnv('DYING_TRAINER_STEPS', lives);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
}

function expectClose(losses: number[], expected: number[]): void {
  expect(losses).toHaveLength(ROWS);
  for (const [i, loss] of losses.entries()) expect(loss).toBeCloseTo(expected[i]!, 3);
}

/** Counts the trainer processes that start. */
function countStarts(): () => number {
  const start = vi.spyOn(TrainerProcess, 'start');
  onTestFinished(() => start.mockRestore());
  return () => start.mock.calls.length;
}

test('jobs on any number of bases are evaluated at the same time without ending each other', async () => {
  const { validator, evaluate, told, job, home } = bench;
  const others = [await tinyBase({ seed: 2, home }), await tinyBase({ seed: 3, home })];
  const manifests = [job.manifest, ...others.map(({ manifest }) => manifest)];
  const jobs = manifests.map((manifest, i) => ({ job: `${i}`.repeat(64), manifest }));
  const starts = countStarts();
  const one = validator();
  const losses = await Promise.all(jobs.map((job) => evaluate(one, job)));
  expect(new Set(losses.flat()).size).toBe(jobs.length * ROWS);
  expect(starts()).toBe(jobs.length);
  expect(told).toEqual([]);
});

describe('jobs on one base', () => {
  const others = ({ manifest }: ValidationJob): ValidationJob[] => [
    { job: 'b'.repeat(64), manifest: { ...manifest, lora: { ...manifest.lora, rank: 4 } } },
    {
      job: 'c'.repeat(64),
      manifest: {
        ...manifest,
        seed: 7,
        training: { ...manifest.training, batchSize: 4, learningRate: 0.01 },
      },
    },
  ];

  test('share one process, which computes the same bits as a process for each job', async () => {
    const { validator, job, rows, model, told } = bench;
    const jobs = [job, ...others(job)];
    const { signal } = new AbortController();
    const options = { signal, pause: signal, onFallback: (because: string) => told.push(because) };
    const start = ({ manifest }: ValidationJob) => {
      const layout = adapterLayout(model, manifest.lora);
      return { adapter: initialMatrices(layout, 1), optimizer: freshOptimizer(layout) };
    };
    const measured = async (by: TrainerValidator, job: ValidationJob) => {
      const { adapter } = start(job);
      return [
        await by.evaluate(job, adapter, options),
        await by.gradient(job, adapter, rows.slice(0, ROWS), options),
        await by.losses(job, adapter, rows.slice(ROWS, 2 * ROWS), options),
      ];
    };
    const position = { start: 0, perStep: 1 };
    const audited = (by: TrainerValidator, job: ValidationJob) =>
      by.train(job, { ...start(job), rows: rows.slice(0, 8), steps: 2, position }, options);
    const starts = countStarts();
    const alone = [];
    for (const job of jobs) {
      const own = validator();
      alone.push({ measured: await measured(own, job), audited: await audited(own, job) });
      await own.stop();
    }
    expect(starts()).toBe(jobs.length);
    const shared = validator();
    // One process works for all jobs in turns. Its results are those of a separate process for each job.
    expect(await Promise.all(jobs.map((job) => measured(shared, job)))).toEqual(
      alone.map(({ measured }) => measured),
    );
    for (const [i, job] of jobs.entries()) expect(await audited(shared, job)).toEqual(alone[i]!.audited);
    expect(starts()).toBe(jobs.length + 1);
    expect(told).toEqual([]);
  });

  test('keep their process until the last of them is released', async () => {
    const { validator, evaluate, job } = bench;
    const other = { ...job, job: 'd'.repeat(64) };
    const starts = countStarts();
    const one = validator();
    const losses = await evaluate(one);
    expect(await evaluate(one, other)).toEqual(losses);
    await one.release(job.job);
    expect(await evaluate(one, other)).toEqual(losses);
    expect(starts()).toBe(1);
    await one.release(other.job);
    expect(await evaluate(one)).toEqual(losses);
    expect(starts()).toBe(2);
  });

  test('go on when the process dies under one of them', async () => {
    const { validator, evaluate, job, told } = bench;
    const expected = await evaluate(validator());
    await trainersDie('1');
    const one = validator();
    const losses = await Promise.all([job, { ...job, job: 'd'.repeat(64) }].map((of) => evaluate(one, of)));
    for (const some of losses) expectClose(some, expected);
    expectClose(await evaluate(one), expected);
    expect(told).toEqual([expect.stringMatching(/\bSIGKILL\b/)]);
  });

  test('stop the audits of each other for urgent work', async () => {
    const { validator, evaluate, job, layout, rows, told } = bench;
    const { signal } = new AbortController();
    const options = { signal, pause: signal, onFallback: (because: string) => told.push(because) };
    const one = validator();
    await evaluate(one);
    const steps = 2000;
    const all = Array.from({ length: 2 * steps }, (_, i) => rows[i % rows.length]!);
    const start = { adapter: initialMatrices(layout, 1), optimizer: freshOptimizer(layout) };
    const audit = one.train(job, { ...start, rows: all, steps, position: { start: 0, perStep: 1 } }, options);
    expect(await evaluate(one, { ...job, job: 'd'.repeat(64) })).toEqual(await evaluate(one));
    expect((await audit).isComplete).toBe(false);
    expect(told).toEqual([]);
  });
});

test('gradients come from the same process, and point to a lower loss', async () => {
  const { validator, evaluate, job, rows, told } = bench;
  const { signal } = new AbortController();
  const one = validator();
  const before = await evaluate(one);
  const start = initialMatrices(bench.layout, 1);
  const some = rows.slice(0, ROWS);
  const options = { signal, onFallback: (because: string) => told.push(because) };
  const gradient = await one.gradient(job, start, some, options);
  const scale = 0.1 / Math.sqrt(gradient.flatMap((g) => [...g]).reduce((sum, g) => sum + g * g, 0));
  const after = start.map((values, t) => values.map((value, i) => value - scale * gradient[t]![i]!));
  const losses = await one.evaluate(job, after, options);
  expect(await one.losses(job, after, some, options)).toEqual(losses);
  const total = (sums: number[]) => sums.reduce((sum, loss) => sum + loss, 0);
  expect(total(losses.map(({ lossSum }) => lossSum))).toBeLessThan(total(before));
  expect(told).toEqual([]);
});

describe('after a device failure', () => {
  test('the evaluation starts again with a smaller micro-batch, reports it, and keeps it', async () => {
    const { validator, evaluate, told } = bench;
    const expected = await evaluate(validator());
    expect(told).toEqual([]);
    await trainersDie('0,1');
    const killed = validator();
    expectClose(await evaluate(killed), expected);
    expect(told).toEqual([expect.stringMatching(/\b2 rows\b.*\bonnx-cpu\b.*\bSIGKILL\b.*\bone row\b/)]);
    // The second trainer dies with a micro-batch of one row too, and no lighter fallback is left. The evaluation after that
    // starts with one row again, not with two.
    await expect(evaluate(killed)).rejects.toMatchObject({ code: 'TRAINER_DIED' });
    expectClose(await evaluate(killed), expected);
    expect(told).toHaveLength(1);
  });

  test('the evaluation continues on the CPU when the chosen device has gone', async () => {
    const { validator, evaluate, told } = bench;
    const expected = await evaluate(validator());
    await measureGoneGpu(bench);
    expectClose(await evaluate(validator('auto')), expected);
    expect(told).toEqual([expect.stringMatching(/onnx-cuda.*onnx-cpu$/)]);
  });
});

test('an audit stops for an evaluation, and continues to the same bits', async () => {
  const { validator, evaluate, job, layout, rows, told } = bench;
  const { batchSize } = job.manifest.training;
  const steps = 40;
  const all = Array.from({ length: steps * batchSize }, (_, i) => rows[i % rows.length]!);
  const { signal } = new AbortController();
  const options = { signal, pause: signal, onFallback: (because: string) => told.push(because) };
  const start = { adapter: initialMatrices(layout, 1), optimizer: freshOptimizer(layout) };
  const position = { start: 0, perStep: 1 };
  const one = validator();
  const whole = await one.train(job, { ...start, rows: all, steps, position }, options);
  expect(whole).toMatchObject({ steps, rows: all.length });

  // An audit is trained in pieces, because each evaluation by the same validator stops it. The first piece is stopped
  // at once. Each later piece gets more time, as long as another validator takes for one more evaluation.
  const other = validator();
  let state = { ...start, steps: 0, rows: 0 };
  let pieces = 0;
  while (state.steps < steps) {
    const rest = { ...state, rows: all.slice(state.rows), steps: steps - state.steps };
    const at = { ...position, start: state.steps };
    const training = one.train(job, { ...rest, position: at }, options);
    for (let i = 0; i < pieces; i++) await evaluate(other);
    pieces++;
    await evaluate(one);
    const made = await training;
    state = {
      adapter: [...made.adapter],
      optimizer: made.optimizer,
      steps: state.steps + made.steps,
      rows: state.rows + made.rows,
    };
  }
  expect(pieces).toBeGreaterThan(1);
  expect(state.adapter).toEqual(whole.adapter);
  expect(told).toEqual([]);
});
