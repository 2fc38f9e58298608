import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { initialMatrices } from '../../../../../lora/adapter/initial.ts';
import type { Row } from '../../../../../lora/data/row.ts';
import type { Engine, Executable, Feeds } from '../../../../../lora/engines/engine.ts';
import { LOSS_SCALE_INPUT, LossScale } from '../../../../../lora/train/optimizer/loss-scale.ts';
import { Trainer } from '../../../../../lora/train/trainer.ts';
import { maxDifference } from '../../../../utils/models/reference.ts';
import {
  type TinyDeps,
  tinyDeps,
  tinyRows,
  tinySettings,
  tinyTrainer,
} from '../../../../utils/models/tiny-trainer.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const FLOAT16_MAX = 65504;

/**
 * A fake graph with one gradient, whose two values are 0.5 and 3. Both are multiplied by the loss scale. If the second
 * one gets too large for float16, it becomes infinite.
 */
function graph(loss = 1) {
  const scales: number[] = [];
  const executable: Executable = {
    async run(feeds: Feeds) {
      const scale = Number(feeds[LOSS_SCALE_INPUT]![0]);
      scales.push(scale);
      const gradient = 3 * scale;
      const found = Math.abs(gradient) > FLOAT16_MAX ? Number.POSITIVE_INFINITY : gradient;
      return { loss: Float32Array.of(loss), 'gradient/a': Float32Array.of(0.5 * scale, found) };
    },
    async dispose() {},
  };
  return { scales, executable };
}

const next = expect.stringMatching(/--precision float32.*--resume/);
const notFinite = expect.objectContaining({
  code: 'GRADIENT_NOT_FINITE',
  next,
});

describe('a loss scale', () => {
  test('is fed to the graph, whose gradients are divided by it', async () => {
    const { scales, executable } = graph();
    const outputs = await new LossScale().around(executable).run({});
    expect(outputs).toEqual({ loss: Float32Array.of(1), 'gradient/a': Float32Array.of(0.5, 3) });
    expect(scales).toEqual([1024]);
  });

  test('is halved, and the run repeated, until nothing overflows', async () => {
    const scale = new LossScale();
    scale.state = { scale: 2 ** 17, runs: 0 };
    const { scales, executable } = graph();
    const outputs = await scale.around(executable).run({});
    expect(scales).toEqual([2 ** 17, 2 ** 16, 2 ** 15, 2 ** 14]);
    expect(outputs['gradient/a']).toEqual(Float32Array.of(0.5, 3));
    expect(scale.state).toEqual({ scale: 2 ** 14, runs: 1 });
  });

  test('is doubled after 2,000 runs without overflow, up to a limit', async () => {
    const scale = new LossScale();
    const { executable } = graph();
    const scaled = scale.around(executable);
    for (let i = 0; i < 1999; i++) await scaled.run({});
    expect(scale.state).toEqual({ scale: 1024, runs: 1999 });
    await scaled.run({});
    expect(scale.state).toEqual({ scale: 2048, runs: 0 });
    const steady: Executable = { ...executable, run: async () => ({ loss: Float32Array.of(1) }) };
    scale.state = { scale: 2 ** 24, runs: 1999 };
    await scale.around(steady).run({});
    expect(scale.state).toEqual({ scale: 2 ** 24, runs: 0 });
  });

  test('is an error if the smallest scale overflows, or if the loss itself does', async () => {
    const nothing = { dispose: async () => {} };
    const nan: Executable = {
      ...nothing,
      run: async () => ({ loss: Float32Array.of(1), 'gradient/a': Float32Array.of(Number.NaN) }),
    };
    await expect(new LossScale().around(nan).run({})).rejects.toThrow(notFinite);
    const { scales, executable } = graph(Number.POSITIVE_INFINITY);
    await expect(new LossScale().around(executable).run({})).rejects.toThrow(notFinite);
    expect(scales).toHaveLength(1);
  });

  test('is refused if it is invalid', () => {
    for (const state of [
      { scale: 3, runs: 0 },
      { scale: 2 ** 25, runs: 0 },
      { scale: 0, runs: 0 },
      { scale: 1024, runs: -1 },
      { scale: 1024, runs: Number.NaN },
    ]) {
      const set = () => {
        new LossScale().state = state;
      };
      expect(set, JSON.stringify(state)).toThrow(withCode('OPTIMIZER_STATE'));
    }
  });
});

describe('a trainer in float16', () => {
  let folder: string;
  let deps: TinyDeps;
  let rows: Row[];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'loss-scale-test-'));
    deps = await tinyDeps(folder);
    rows = await tinyRows(deps, 24);
  });
  afterAll(() => rm(folder, { recursive: true }));

  /**
   * An engine on the processor that turns gradients too large for float16 into infinity. It records the loss scales.
   */
  function narrow(): { engine: Engine; scales: number[] } {
    const scales: number[] = [];
    const compile: Engine['compile'] = async (graph, weights) => {
      const executable = await deps.engine.compile(graph, weights);
      return {
        dispose: () => executable.dispose(),
        async run(feeds) {
          const outputs = await executable.run(feeds);
          if (feeds[LOSS_SCALE_INPUT]) scales.push(Number(feeds[LOSS_SCALE_INPUT][0]));
          for (const values of Object.values(outputs)) {
            for (const [i, x] of values.entries())
              if (Math.abs(x) > FLOAT16_MAX) values[i] = x * Number.POSITIVE_INFINITY;
          }
          return outputs;
        },
      };
    };
    return { engine: { name: 'onnx-cpu', compile }, scales };
  }

  function trainer(engine: Engine): Trainer {
    const made = new Trainer(tinySettings({}, { precision: 'float16' }), { ...deps, engine });
    made.setParameters(initialMatrices(made.layout, 1));
    return made;
  }

  test('makes the same steps as without a scale, however large the first scale', async () => {
    const plain = tinyTrainer(deps);
    plain.setParameters(initialMatrices(plain.layout, 1));
    const { engine, scales } = narrow();
    const [scaled, usual] = [trainer(engine), trainer(narrow().engine)];
    scaled.setOptimizerState({ ...scaled.optimizerState(), lossScale: { scale: 2 ** 24, runs: 0 } });
    const trainers = [plain, scaled, usual];
    for (const one of trainers) expect((await one.train({ rows, steps: 4 })).steps).toBe(4);
    expect(scales[0]).toBe(2 ** 24);
    expect(scales.length).toBeGreaterThan(8);
    expect(scales.at(-1)).toBeLessThan(2 ** 24);
    // Scaling by powers of two causes no rounding.
    expect(scaled.parameters()).toEqual(usual.parameters());
    for (const [i, values] of scaled.parameters().entries()) {
      expect(maxDifference(values, plain.parameters()[i]!)).toBeLessThan(1e-3);
    }
    for (const one of trainers) await one.dispose();
  });

  test('imports neither moments nor scale if one of them is invalid', async () => {
    const one = trainer(narrow().engine);
    await one.train({ rows: rows.slice(0, 4), steps: 1 });
    const state = one.optimizerState();
    const others = state.m.map((values) => values.map(() => 7));
    for (const bad of [
      { ...state, step: 3, m: others, lossScale: { scale: 3, runs: 0 } },
      { ...state, step: 3, m: others.slice(1), lossScale: { scale: 2 ** 20, runs: 0 } },
    ]) {
      expect(() => one.setOptimizerState(bad)).toThrow(withCode('OPTIMIZER_STATE'));
      expect(one.optimizerState()).toEqual(state);
    }
    await one.dispose();
  });

  test('continues bit for bit, with its scale', async () => {
    const straight = trainer(narrow().engine);
    const [first, second] = [trainer(narrow().engine), trainer(narrow().engine)];
    const large = (one: Trainer) =>
      one.setOptimizerState({ ...one.optimizerState(), lossScale: { scale: 2 ** 20, runs: 0 } });
    for (const one of [straight, first]) large(one);
    await straight.train({ rows, steps: 6 });
    await first.train({ rows: rows.slice(0, 12), steps: 3 });
    second.setParameters(first.parameters());
    second.setOptimizerState(structuredClone(first.optimizerState()));
    await second.train({ rows: rows.slice(12), steps: 3 });
    expect(second.parameters()).toEqual(straight.parameters());
    expect(second.optimizerState()).toEqual(straight.optimizerState());
    expect(second.optimizerState().lossScale!.runs).toBeGreaterThan(3);
    for (const one of [straight, first, second]) await one.dispose();
  });
});
