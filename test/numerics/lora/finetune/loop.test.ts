import { appendFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { StoredRows } from '../../../../lora/data/stored-rows.ts';
import { CheckpointFolder, type RunState } from '../../../../lora/finetune/checkpoints.ts';
import { HeldOutLoss } from '../../../../lora/finetune/held-out-loss.ts';
import { TrainingLoop } from '../../../../lora/finetune/loop.ts';
import { type Layer, resolveSpec, trainingConfig } from '../../../../lora/finetune/settings/settings.ts';
import type { TrainerProcess, TrainOptions } from '../../../../lora/train/process/supervisor.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { trainingState } from '../../../utils/swarm/checkpoints.ts';

const BATCH = 4;

/** A trainer that records its rows. It says that row number n has `tokensOf(n)` supervised tokens. */
class FakeTrainer {
  readonly batches: number[][] = [];
  step = 0;
  tokensOf = (_row: number): number => 1;
  /** Held-out losses that the next evaluations return, in this order. */
  losses: number[] = [];

  async train({ rows, steps, adapter, onProgress }: TrainOptions) {
    const numbers = rows as unknown as number[];
    let made = 0;
    let tokens = 0;
    for (let at = 0; at < numbers.length && made < steps; at += BATCH) {
      const batch = numbers.slice(at, at + BATCH);
      this.batches.push(batch);
      const predicted = batch.reduce((sum, row) => sum + this.tokensOf(row), 0);
      if (predicted === 0) continue;
      tokens += predicted;
      this.step++;
      onProgress!({
        ...{ step: ++made, steps, rows: at + batch.length, loss: 1, tokens, lossSum: tokens },
        ...{ learningRate: 1, gradientNorm: 1, tokensPerSecond: 1 },
      });
    }
    return { adapter };
  }

  async evaluate() {
    return [{ lossSum: this.losses.shift()!, tokens: 1 }];
  }

  async state() {
    const { adapter, optimizer } = trainingState(this.step);
    return { adapter, optimizer };
  }
}

async function world(dataRows: number, run: Layer['run'], { heldOut = false } = {}) {
  const output = await temporaryFolder();
  const trainer = new FakeTrainer();
  const data = {
    rows: dataRows,
    row: (number: number) => number,
    rowsAt: (list: readonly number[]) => list,
  } as unknown as StoredRows;
  const listener = {};
  const checkpoints = new CheckpointFolder({ output, keep: 1 });
  const { about, adapter, state: any } = trainingState(0, { rows: 0, tokens: 0, seconds: 0, loss: null });
  const spec = resolveSpec({
    ...{ base: '/base', data: { train: ['/data'], heldOut: ['/held-out'] } },
    ...{ training: { batchSize: BATCH }, run },
  });
  const training = trainingConfig(spec, dataRows);
  const settings = { ...any.settings, spec, totalSteps: training.totalSteps };
  const state = { ...any, settings } as RunState;
  const measure = new HeldOutLoss({ trainer: trainer as unknown as TrainerProcess, data, listener });
  const loop = new TrainingLoop(
    { settings, training, start: { adapter, optimizer: null }, state },
    {
      ...{ data, checkpoints, about, listener, heldOut: heldOut ? measure : null },
      trainer: trainer as unknown as TrainerProcess,
    },
  );
  const train = () => loop.run(new AbortController().signal);
  return { loop, trainer, checkpoints, train };
}

const ascending = (batches: readonly number[][]) => batches.flat().sort((a, b) => a - b);

describe('the steps of a run', () => {
  it('use every row once per epoch; the last batch has the remaining rows', async () => {
    const { loop, trainer, train } = await world(10, { epochs: 1 });
    await train();
    expect(trainer.batches.map(({ length }) => length)).toEqual([4, 4, 2]);
    expect(ascending(trainer.batches)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(loop.state).toMatchObject({ step: 3, rows: 10, finished: 'steps' });
  });

  it('use every row once per epoch, and half of them for half an epoch', async () => {
    const twice = await world(5, { epochs: 2 });
    await twice.train();
    expect(ascending(twice.trainer.batches)).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    const half = await world(12, { epochs: 0.5 });
    await half.train();
    expect(new Set(half.trainer.batches.flat()).size).toBe(6);
  });

  it('are as many as asked for, with full batches', async () => {
    const { trainer, train } = await world(10, { steps: 4 });
    await train();
    expect(trainer.batches.map(({ length }) => length)).toEqual([4, 4, 4, 4]);
  });

  it('end with the rows, although batches without supervised tokens make no step', async () => {
    const { loop, trainer, train } = await world(12, { epochs: 1 });
    trainer.tokensOf = (row) => (trainer.batches[0]!.includes(row) ? 0 : 1);
    await train();
    expect(loop.state).toMatchObject({ step: 2, rows: 12, finished: 'steps' });
    expect(ascending(trainer.batches)).toHaveLength(12);
  });
});

describe('the result of a run', () => {
  it('is the best adapter', async () => {
    const { loop, trainer, train } = await world(40, { steps: 6, evaluateEvery: 2 }, { heldOut: true });
    trainer.losses = [2, 1, 3];
    await train();
    expect(await loop.result()).toEqual({ adapter: trainingState(4).adapter, step: 4, heldOutLoss: 1 });
  });

  it('is an error with advice if its checkpoint was damaged or deleted', async () => {
    for (const harm of [
      (dir: string) => appendFile(join(dir, 'adapter_model.safetensors'), 'x'),
      (dir: string) => rm(dir, { recursive: true }),
    ]) {
      const run = await world(40, { steps: 6, evaluateEvery: 2 }, { heldOut: true });
      run.trainer.losses = [2, 1, 3];
      await run.train();
      await harm(join(run.checkpoints.path, 'step-00000004'));
      await expect(run.loop.result()).rejects.toMatchObject({
        code: 'TRAIN_CHECKPOINT',
        values: { step: 4 },
        next: expect.stringContaining('--final last'),
      });
    }
  });
});
