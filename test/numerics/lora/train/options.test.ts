/** Training options through the trainer, as a node and `lora-swarm train` use them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialAdapter } from '../../../../lora/adapter/initial.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import type { Row } from '../../../../lora/data/row.ts';
import type { AdamWState } from '../../../../lora/train/optimizer/adamw.ts';
import { Trainer } from '../../../../lora/train/trainer.ts';
import { maxDifference } from '../../../utils/models/reference.ts';
import type { TrainingOptions } from '../../../utils/models/tiny-trainer.ts';
import { type TinyDeps, tinyDeps, tinyRows, tinySettings } from '../../../utils/models/tiny-trainer.ts';

let dir: string;
let deps: TinyDeps;
let rows: Row[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'options-'));
  deps = await tinyDeps(dir);
  const [few, ...others] = await tinyRows(deps, 16);
  // Rows of unequal weight: the first predicts three tokens.
  rows = [{ ...few!, labels: few!.labels.map((label, t) => (t < 13 ? -100 : label)) }, ...others];
});
afterAll(() => rm(dir, { recursive: true, force: true }));

type Lora = Parameters<typeof loraConfig>[0];

async function trained(training: TrainingOptions, lora: Lora = {}, steps = 4, given = rows) {
  const settings = { ...tinySettings(training), lora: loraConfig({ rank: 4, alpha: 8, ...lora }) };
  const trainer = new Trainer(settings, deps);
  const before = await initialAdapter(deps.model, settings.lora, 1);
  trainer.setParameters(before);
  const result = await trainer.train({ rows: given, steps });
  const after = trainer.parameters();
  const { m } = trainer.optimizerState();
  const heldOut = await trainer.evaluate(rows.slice(0, 4));
  await trainer.dispose();
  return { before, after, result, moments: m, layout: trainer.layout, heldOut };
}

describe('options of training', () => {
  it('draw different random numbers in every step and micro-batch, and the same ones in an equal run', async () => {
    const noisy = { neftuneAlpha: 30, microBatch: 4 };
    const once = await trained(noisy, { dropout: 0.3 });
    expect((await trained(noisy, { dropout: 0.3 })).after).toEqual(once.after);
    expect((await trained({ ...noisy, seed: 1 }, { dropout: 0.3 })).after).not.toEqual(once.after);
    expect((await trained({ ...noisy, microBatch: 2 }, { dropout: 0.3 })).after).not.toEqual(once.after);
  });

  it('noise and label smoothing raise the training loss, and not the evaluation loss', async () => {
    const plain = await trained({}, {}, 1);
    const noisy = await trained({ neftuneAlpha: 30 }, {}, 1);
    const smooth = await trained({ labelSmoothing: 0.5 }, {}, 1);
    expect(noisy.result.lossFirst).not.toBeCloseTo(plain.result.lossFirst, 4);
    expect(smooth.result.lossFirst).not.toBeCloseTo(plain.result.lossFirst, 4);
    // With so small a learning rate the adapter stays the same, so the evaluations must be equal.
    const still = { learningRate: 1e-12, warmupSteps: 0 };
    const quiet = await trained(still, {}, 1);
    for (const training of [{ neftuneAlpha: 30 }, { labelSmoothing: 0.5 }]) {
      const { heldOut } = await trained({ ...still, ...training }, {}, 1);
      for (const [i, { lossSum }] of heldOut.entries())
        expect(lossSum).toBeCloseTo(quiet.heldOut[i]!.lossSum, 5);
    }
  });

  it('a step in micro-batches equals the step of the whole batch, also with label smoothing', async () => {
    const steps = await Promise.all(
      [4, 1, 3].map((microBatch) => trained({ microBatch, labelSmoothing: 0.2 }, {}, 1)),
    );
    for (const { result, moments } of steps) {
      expect(result.lossFirst).toBeCloseTo(steps[0]!.result.lossFirst, 5);
      for (const [i, moment] of moments.entries()) {
        expect(maxDifference(moment, steps[0]!.moments[i]!)).toBeLessThan(1e-7);
      }
    }
  });

  it('rows without a label change only the random numbers, wherever they are', async () => {
    const silent = { ...rows[1]!, labels: rows[1]!.labels.map(() => -100) };
    const shape = { useDora: true, modulesToSave: ['lm_head'] };
    const settings = { labelSmoothing: 0.2, batchSize: 6 };
    // Micro-batches of nothing but padding or unlabelled rows, at the beginning, in the middle and at the end.
    const sparse = [silent, silent, rows[0]!, silent, rows[2]!, silent];
    const alone = await trained({ ...settings, microBatch: 6 }, shape, 1, [rows[0]!, rows[2]!]);
    for (const microBatch of [1, 2, 4, 6]) {
      const { result, moments } = await trained({ ...settings, microBatch }, shape, 1, sparse);
      expect(result.tokens).toBe(alone.result.tokens);
      expect(result.lossFirst).toBeCloseTo(alone.result.lossFirst, 5);
      for (const [i, moment] of moments.entries()) {
        expect(maxDifference(moment, alone.moments[i]!), `${microBatch} at a time`).toBeLessThan(1e-7);
      }
    }
    const random = { ...settings, microBatch: 1, neftuneAlpha: 30 };
    const noisy = await trained(random, { ...shape, dropout: 0.3 }, 1, sparse);
    for (const moment of noisy.moments) expect(moment.every(Number.isFinite)).toBe(true);
  });

  it('a batch without a label makes no step', async () => {
    const silent = rows.slice(0, 4).map((row) => ({ ...row, labels: row.labels.map(() => -100) }));
    const { result, before, after } = await trained({ batchSize: 4 }, {}, 2, silent);
    expect(result).toMatchObject({ steps: 0, tokens: 0 });
    expect(after).toEqual(before);
  });

  it('LoRA+ moves B faster and A as before; a frozen A does not move', async () => {
    const plain = await trained({}, {}, 1);
    const plus = await trained({ loraPlusRatio: 4 }, {}, 1);
    const frozen = await trained({}, { freezeA: true }, 1);
    for (const [i, { group }] of plain.layout.entries()) {
      const moved = ({ before, after }: typeof plain) => maxDifference(after[i]!, before[i]!);
      if (group === 'A') {
        expect(plus.after[i]).toEqual(plain.after[i]);
        expect(moved(frozen)).toBe(0);
      } else {
        expect(moved(plus) / moved(plain)).toBeCloseTo(4, 3);
        expect(moved(frozen)).toBeGreaterThan(0);
      }
    }
  });

  it('weight decay applies only to the named parameter groups', async () => {
    const settings = { weightDecay: 0.5, learningRate: 0.1, warmupSteps: 0 };
    const none = await trained({ ...settings, weightDecay: 0 }, {}, 1);
    const onlyB = await trained({ ...settings, weightDecayGroups: ['B'] }, {}, 1);
    const both = await trained(settings, {}, 1);
    for (const [i, { group }] of none.layout.entries()) {
      // B starts at zero, so its first decay changes nothing.
      if (group === 'A') {
        expect(onlyB.after[i]).toEqual(none.after[i]);
        expect(both.after[i]).not.toEqual(none.after[i]);
      }
    }
  });

  it('adapters of every shape train', async () => {
    for (const lora of [
      { useDora: true, dropout: 0.1 },
      { modulesToSave: ['lm_head'], bias: 'all' },
      { useRslora: true, rankPattern: [['q_proj', 2]] },
    ] as const) {
      const { result } = await trained({}, lora as unknown as Lora, 4);
      expect(result.lossLast).toBeLessThan(result.lossFirst);
    }
  });

  it('the schedule follows the position of the job, and the warm-up follows the steps of the trainer', async () => {
    const settings = tinySettings({ schedule: 'linear', warmupSteps: 2, totalSteps: 102 });
    const trainer = new Trainer(settings, deps);
    trainer.setParameters(await initialAdapter(deps.model, settings.lora, 1));
    const rates: number[] = [];
    await trainer.train({
      rows,
      steps: 3,
      position: { start: 52, perStep: 2 },
      onProgress: ({ learningRate }) => rates.push(learningRate),
    });
    const at = (position: number) => 1e-2 * (0.1 + 0.9 * (1 - (position - 2) / 100));
    expect(rates[0]).toBeCloseTo(at(52) / 2);
    expect(rates[1]).toBeCloseTo(at(54));
    expect(rates[2]).toBeCloseTo(at(56));
    // The operator has now changed the learning rate and the number of rounds.
    const schedule = { learningRate: 2e-3, totalSteps: 202 };
    await trainer.train({
      rows,
      steps: 1,
      position: { start: 52, perStep: 2, schedule },
      onProgress: ({ learningRate }) => rates.push(learningRate),
    });
    expect(rates[3]).toBeCloseTo(2e-3 * (0.1 + 0.9 * (1 - 50 / 200)));
    await trainer.dispose();
  });

  it('a round draws the same random numbers on every machine, whatever its optimiser did before', async () => {
    const settings = {
      ...tinySettings({ neftuneAlpha: 30 }),
      lora: loraConfig({ rank: 4, alpha: 8, dropout: 0.4 }),
    };
    const trainer = new Trainer(settings, deps);
    const adapter = await initialAdapter(deps.model, settings.lora, 1);
    const fresh = trainer.optimizerState();
    const position = { start: 52, perStep: 2 };
    const round = async (first: AdamWState, parts: readonly number[]): Promise<number[]> => {
      trainer.setParameters(adapter);
      trainer.setOptimizerState(first);
      const losses: number[] = [];
      for (const [i, steps] of parts.entries()) {
        const done = parts.slice(0, i).reduce((sum, one) => sum + one, 0);
        const onProgress = ({ loss }: { loss: number }) => losses.push(loss);
        const given = rows.slice(done * settings.training.batchSize);
        await trainer.train({ rows: given, steps, position: { ...position, done }, onProgress });
      }
      return losses;
    };
    const whole = await round(fresh, [4]);
    const used = trainer.optimizerState();
    // An audit trains in parts, and with a new optimiser. Other moments change only the losses after the first step.
    expect(await round(fresh, [1, 3])).toEqual(whole);
    expect((await round(used, [1]))[0]).toBe(whole[0]);
    trainer.setParameters(adapter);
    trainer.setOptimizerState(used);
    const without = await trainer.train({ rows, steps: 1 });
    expect(without.lossFirst).not.toBe(whole[0]);
    await trainer.dispose();
  });
});
