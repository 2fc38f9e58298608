import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { predictedTokens, type Row } from '../../../../lora/data/row.ts';
import { Trainer, type TrainProgress } from '../../../../lora/train/trainer.ts';
import { packedRows } from '../../../../scripts/pretrain/pack-documents.ts';
import { TINY_TEXT } from '../../../utils/models/tiny-model.ts';
import {
  TINY_LENGTH,
  type TinyDeps,
  tinyDeps,
  tinyRows,
  tinySettings,
  tinyTrainer,
} from '../../../utils/models/tiny-trainer.ts';
import { withCode } from '../../../utils/source/codes.ts';

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'trainer-'));
  deps = await tinyDeps(dir);
  rows = await tinyRows(deps, 32);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function fresh(...training: Parameters<typeof tinyTrainer> extends [unknown, ...infer T] ? T : never) {
  const trainer = tinyTrainer(deps, ...training);
  trainer.setParameters(initialMatrices(trainer.layout, 1));
  return trainer;
}

function greatestDifference(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return Math.max(
    ...a.map((tensor, i) => tensor.reduce((most, x, j) => Math.max(most, Math.abs(x - b[i]![j]!)), 0)),
  );
}

describe('training', () => {
  it('lowers the loss, and reports every step', async () => {
    const trainer = fresh();
    const progress: TrainProgress[] = [];
    const result = await trainer.train({ rows, steps: 8, onProgress: (step) => progress.push(step) });
    expect(result.lossLast).toBeLessThan(0.95 * result.lossFirst);
    expect(result.steps).toBe(8);
    expect(result.tokens).toBe(rows.reduce((sum, row) => sum + predictedTokens(row), 0));
    expect(progress.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(progress.at(-1)).toMatchObject({ steps: 8, tokens: result.tokens, loss: result.lossLast });
    expect(progress[0]!.learningRate).toBeCloseTo(5e-3);
    for (const { tokensPerSecond, gradientNorm } of progress) {
      expect(tokensPerSecond).toBeGreaterThan(0);
      expect(gradientNorm).toBeGreaterThan(0);
    }
    await trainer.dispose();
  });

  it("starts at the base's loss exactly, because B is zero", async () => {
    const trainer = fresh();
    const zero = tinyTrainer(deps);
    expect(await trainer.evaluate(rows)).toEqual(await zero.evaluate(rows));
    await trainer.dispose();
    await zero.dispose();
  });

  it('is deterministic, and continues bit for bit from parameters and optimiser state', async () => {
    const straight = fresh();
    await straight.train({ rows, steps: 8 });
    const first = fresh();
    await first.train({ rows: rows.slice(0, 12), steps: 3 });
    const second = tinyTrainer(deps);
    second.setParameters(first.parameters());
    second.setOptimizerState(structuredClone(first.optimizerState()));
    await second.train({ rows: rows.slice(12), steps: 5 });
    expect(second.parameters()).toEqual(straight.parameters());
    expect(second.optimizerState()).toEqual(straight.optimizerState());
    for (const trainer of [straight, first, second]) await trainer.dispose();
  });

  it('makes the same steps with gradient checkpointing', async () => {
    const plain = fresh();
    const saving = new Trainer(tinySettings({}, { checkpointing: true }), deps);
    saving.setParameters(plain.parameters());
    for (const trainer of [plain, saving]) await trainer.train({ rows, steps: 3 });
    expect(saving.parameters()).toEqual(plain.parameters());
    for (const trainer of [plain, saving]) await trainer.dispose();
  });

  it('makes the same step with micro-batches of any size, also where rows have different numbers of tokens', async () => {
    const few = rows[0]!;
    const uneven = [
      { ...few, labels: few.labels.map((label, t) => (t < 13 ? -100 : label)) },
      ...rows.slice(1, 4),
    ];
    const steps = await Promise.all(
      [4, 1, 3].map(async (microBatch) => {
        const trainer = fresh({ microBatch });
        const result = await trainer.train({ rows: uneven, steps: 1 });
        const outcome = { loss: result.lossFirst, parameters: trainer.optimizerState().m };
        await trainer.dispose();
        return outcome;
      }),
    );
    for (const { loss, parameters } of steps) {
      expect(loss).toBeCloseTo(steps[0]!.loss, 5);
      // After one step, the first moments are the gradient × (1 − β₁). The parameters would hide errors, because AdamW
      // divides the gradient by its own size.
      expect(greatestDifference(parameters, steps[0]!.parameters)).toBeLessThan(1e-7);
    }
  });

  it('ends early when the rows run out, with a smaller last batch', async () => {
    const trainer = fresh();
    expect(await trainer.train({ rows: rows.slice(0, 6), steps: 10 })).toMatchObject({ steps: 2 });
    expect(await trainer.train({ rows: [], steps: 10 })).toMatchObject({ steps: 0, tokens: 0 });
    await trainer.dispose();
  });

  it('reads no more rows than its steps need', async () => {
    const trainer = fresh();
    let taken = 0;
    async function* source() {
      for (const row of rows) {
        taken++;
        yield row;
      }
    }
    await trainer.train({ rows: source(), steps: 2 });
    expect(taken).toBe(8);
    await trainer.dispose();
  });

  it('stops between micro-batches when aborted, and keeps the last complete step', async () => {
    const trainer = fresh();
    const controller = new AbortController();
    const aborted = trainer.train({
      rows,
      steps: 8,
      signal: controller.signal,
      onProgress: ({ step }) => step === 3 && controller.abort(),
    });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    expect(trainer.optimizerState().step).toBe(3);
    const other = fresh();
    await other.train({ rows, steps: 3 });
    expect(trainer.parameters()).toEqual(other.parameters());
    await trainer.dispose();
    await other.dispose();
  });

  it('refuses tokens outside the vocabulary, and adapters and states of other shapes', async () => {
    const trainer = fresh();
    const foreign = { ...rows[0]!, ids: rows[0]!.ids.map((id, t) => (t === 5 ? 300 : id)) };
    const refused = { code: 'ROW_TOKEN', values: { token: 300, vocabulary: 300 } };
    await expect(trainer.train({ rows: [foreign], steps: 1 })).rejects.toMatchObject(refused);
    await expect(trainer.evaluate([foreign])).rejects.toMatchObject(refused);
    expect(() => trainer.setParameters(trainer.parameters().slice(1))).toThrow(withCode('ADAPTER_SHAPE'));
    const state = trainer.optimizerState();
    for (const bad of [
      { ...state, step: -1 },
      { ...state, m: state.m.slice(1) },
      { ...state, v: [] },
    ]) {
      expect(() => trainer.setOptimizerState(bad)).toThrow(withCode('OPTIMIZER_STATE'));
    }
    await trainer.dispose();
  });
});

describe('packing', () => {
  it('does not change the loss: packed samples score as in rows of their own', async () => {
    const trainer = fresh();
    await trainer.train({ rows, steps: 2 });
    const texts = TINY_TEXT.split(', ').map((clause) => clause.slice(0, 12));
    const together = await packedRows(texts, deps.tokenizer, { sequenceLength: TINY_LENGTH });
    const pieces = together.flatMap((row) => {
      const last = Math.max(...row.segments);
      return Array.from({ length: last }, (_, s) => {
        const keep = (values: ArrayLike<number>, fill: number) => {
          const kept = Array.from(values).filter((_, t) => row.segments[t] === s + 1);
          return [...kept, ...new Array<number>(row.ids.length - kept.length).fill(fill)];
        };
        return {
          ids: Uint32Array.from(keep(row.ids, 0)),
          segments: Uint16Array.from(keep(row.segments, 0), (segment) => Math.min(segment, 1)),
          labels: Int32Array.from(keep(row.labels, -100)),
        };
      });
    });
    expect(together.length).toBeLessThan(pieces.length);
    const total = async (list: Row[]) =>
      (await trainer.evaluate(list)).reduce((sum, { lossSum }) => sum + lossSum, 0);
    const packed = await total(together);
    expect(Math.abs((await total(pieces)) - packed) / packed).toBeLessThan(1e-6);
    await trainer.dispose();
  });
});

it('returns the gradient of the mean loss, in layout order, and leaves adapter and optimiser alone', async () => {
  const trainer = fresh();
  await trainer.train({ rows, steps: 3 });
  const [before, state] = [trainer.parameters(), structuredClone(trainer.optimizerState())];
  const meanLoss = async (some: readonly Row[]): Promise<number> => {
    const losses = await trainer.evaluate(some);
    return losses.reduce((sum, l) => sum + l.lossSum, 0) / losses.reduce((sum, l) => sum + l.tokens, 0);
  };
  const some = rows.slice(0, 5);
  const gradient = await trainer.lossGradient(some);
  expect(gradient.map(({ length }) => length)).toEqual(before.map(({ length }) => length));
  expect(trainer.parameters()).toEqual(before);
  expect(trainer.optimizerState()).toEqual(state);
  const STEP = 1e-2;
  // A small step along one tensor changes the loss by the inner product of step and gradient.
  for (const tensor of [0, 1, before.length - 1]) {
    const slope = gradient[tensor]!;
    const norm = Math.hypot(...slope);
    const lossAt = async (step: number): Promise<number> => {
      const moved = before.map((values, t) =>
        t === tensor ? values.map((value, i) => value + (step * slope[i]!) / norm) : values,
      );
      trainer.setParameters(moved);
      return meanLoss(some);
    };
    const change = (await lossAt(STEP)) - (await lossAt(-STEP));
    expect(change / (2 * STEP) / norm).toBeCloseTo(1, 1);
  }
  await trainer.dispose();
});
