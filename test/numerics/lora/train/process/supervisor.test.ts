import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { initialMatrices } from '../../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../../lora/data/row.ts';
import { freshOptimizer } from '../../../../../lora/train/optimizer/optimizer-state.ts';
import { TrainerProcess } from '../../../../../lora/train/process/supervisor.ts';
import {
  type TinyDeps,
  tinyDeps,
  tinyRows,
  tinySettings,
  tinyTrainer,
} from '../../../../utils/models/tiny-trainer.ts';

/** Time for which a test pauses the trainer. Without the pause, four steps take a few milliseconds. */
const PAUSE_MS = 300;
/** Milliseconds by which a timer may fire too early. */
const CLOCK_MS = 5;
/** More steps than any test waits for. Each test kills or aborts the trainer before. */
const FOREVER = 100_000;

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'supervisor-'));
  deps = await tinyDeps(dir);
  rows = await tinyRows(deps, 16);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let running: TrainerProcess | null = null;
afterEach(async () => {
  await running?.kill();
  running = null;
});

async function start(): Promise<TrainerProcess> {
  const { modelDir, cacheDir } = deps;
  running = await TrainerProcess.start({ modelDir, cacheDir, ...tinySettings() });
  return running;
}

function endless(trainer: TrainerProcess, signal?: AbortSignal) {
  let began = () => {};
  const beganOnce = new Promise<void>((resolve) => {
    began = resolve;
  });
  const options = {
    adapter: initialMatrices(trainer.layout, 1),
    rows: manyRows(),
    steps: FOREVER,
    onProgress: began,
  };
  const training = trainer.train(signal === undefined ? options : { ...options, signal });
  training.catch(() => {});
  return { training, began: beganOnce };
}

const manyRows = () => Array.from({ length: 4000 }, (_, i) => rows[i % rows.length]!);

describe('the trainer process', () => {
  it('pauses before its next step, goes on with the same result, and does not count the pause', async () => {
    const trainer = await start();
    const adapter = initialMatrices(trainer.layout, 1);
    const optimizer = freshOptimizer(trainer.layout);
    const plain = await trainer.train({ adapter, rows, steps: 4, optimizer });
    let made = 0;
    trainer.pause(true);
    const began = performance.now();
    const onProgress = ({ step }: { step: number }): void => {
      made = step;
    };
    const training = trainer.train({ adapter, rows, steps: 4, optimizer, onProgress });
    await sleep(PAUSE_MS);
    expect(made).toBe(0);
    trainer.pause(false);
    const paused = await training;
    expect(paused.adapter).toEqual(plain.adapter);
    // The trainer was paused for at least PAUSE_MS, so it may count at most the rest of the time since `began`.
    expect(1000 * paused.seconds).toBeLessThanOrEqual(performance.now() - began - PAUSE_MS + CLOCK_MS);
  });

  it('refuses float16 on an engine without it', async () => {
    const { modelDir, cacheDir } = deps;
    const options = { modelDir, cacheDir, ...tinySettings({}, { precision: 'float16' }) };
    await expect(TrainerProcess.start(options)).rejects.toMatchObject({ code: 'PRECISION' });
  });

  it('trains, evaluates and returns its state exactly as a trainer in this process', async () => {
    const trainer = await start();
    const local = tinyTrainer(deps);
    expect(trainer.layout).toEqual(local.layout);
    const adapter = initialMatrices(local.layout, 1);
    local.setParameters(adapter);
    const steps: number[] = [];
    const remote = await trainer.train({
      adapter,
      rows,
      steps: 3,
      onProgress: ({ step }) => steps.push(step),
    });
    const here = await local.train({ rows, steps: 3 });
    expect(steps).toEqual([1, 2, 3]);
    expect(remote.adapter).toEqual(local.parameters());
    expect(remote).toMatchObject({ steps: 3, tokens: here.tokens, lossMean: here.lossMean });
    let passes = 0;
    const onProgress = (): number => passes++;
    const losses = await trainer.evaluate({ adapter: remote.adapter, rows, onProgress });
    expect(losses).toEqual(await local.evaluate(rows));
    expect(passes).toBe(rows.length / tinySettings().training.microBatch);
    expect(await trainer.snapshot()).toEqual(local.optimizerState());
    await local.dispose();
  });

  it('returns the gradient of the loss exactly as a trainer in this process', async () => {
    const trainer = await start();
    const local = tinyTrainer(deps);
    const adapter = initialMatrices(local.layout, 1);
    local.setParameters(adapter);
    let passes = 0;
    const onProgress = (): number => passes++;
    const gradient = await trainer.lossGradient({ adapter, rows, onProgress });
    expect(passes).toBe(rows.length / tinySettings().training.microBatch);
    expect(gradient).toEqual(await local.lossGradient(rows));
    expect(gradient.some((tensor) => tensor.some((value) => value !== 0))).toBe(true);
    await local.dispose();
  });

  it('continues from an optimiser state that is passed in', async () => {
    const trainer = await start();
    const adapter = initialMatrices(trainer.layout, 1);
    const first = await trainer.train({ adapter, rows: rows.slice(0, 8), steps: 2 });
    const optimizer = await trainer.snapshot();
    const on = { adapter: first.adapter, rows: rows.slice(8), steps: 2 };
    const straight = await trainer.train(on);
    await trainer.train({ ...on, steps: 1 });
    expect((await trainer.train({ ...on, optimizer })).adapter).toEqual(straight.adapter);
  });

  it('when it dies, pending and later requests reject with TRAINER_DIED', async () => {
    const trainer = await start();
    const { training, began } = endless(trainer);
    const waiting = trainer.snapshot();
    const died = { code: 'TRAINER_DIED', values: { code: null, signal: 'SIGKILL' } };
    const both = Promise.all([
      expect(training).rejects.toMatchObject(died),
      expect(waiting).rejects.toMatchObject(died),
    ]);
    await began;
    process.kill(trainer.pid!, 'SIGKILL');
    await both;
    expect(trainer.alive).toBe(false);
    await expect(trainer.snapshot()).rejects.toMatchObject(died);
    await trainer.stop();
  });

  it('stops training when aborted, and serves the next request', async () => {
    const trainer = await start();
    const controller = new AbortController();
    const { training, began } = endless(trainer, controller.signal);
    await began;
    controller.abort();
    await expect(training).rejects.toMatchObject({ code: 'TRAINER_ABORTED' });
    expect((await trainer.snapshot()).step).toBeGreaterThan(0);
    const late = trainer.snapshot(AbortSignal.abort());
    await expect(late).rejects.toMatchObject({ code: 'TRAINER_ABORTED' });
  });

  it('stops in the middle of training, and stopping again does nothing', async () => {
    const trainer = await start();
    const { training, began } = endless(trainer);
    await began;
    await Promise.all([trainer.stop(), expect(training).rejects.toMatchObject({ code: 'TRAINER_ABORTED' })]);
    expect(trainer.alive).toBe(false);
    await trainer.stop();
    await trainer.kill();
  });

  it('fails without its engine before it converts weights, which can take minutes', async () => {
    const { modelDir } = deps;
    const cacheDir = join(dir, 'untouched');
    const starting = TrainerProcess.start({
      modelDir,
      cacheDir,
      ...tinySettings({}, { devices: [{ engine: 'tfjs' }] }),
    });
    await expect(starting).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect(existsSync(cacheDir)).toBe(false);
  });

  it('passes on the errors of the base model and of a request, and lives', async () => {
    const { cacheDir } = deps;
    const missing = TrainerProcess.start({
      modelDir: join(dir, 'nowhere'),
      cacheDir,
      ...tinySettings(),
    });
    await expect(missing).rejects.toMatchObject({ code: 'MODEL_DIR' });
    const trainer = await start();
    const wrong = trainer.evaluate({ adapter: [], rows });
    await expect(wrong).rejects.toMatchObject({ code: 'ADAPTER_SHAPE', values: { tensors: 0 } });
    expect((await trainer.snapshot()).step).toBe(0);
  });
});
