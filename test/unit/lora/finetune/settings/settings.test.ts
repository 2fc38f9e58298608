import { describe, expect, it } from 'vitest';
import { mergeLayers, resolveSpec, shareMicroBatch } from '../../../../../lora/finetune/settings/settings.ts';

const least = { base: '/base', data: { train: ['/data'] } };

describe('settings of a run', () => {
  it('have the defaults of a job', () => {
    const { lora, training, run } = resolveSpec(least);
    expect(lora).toMatchObject({ rank: 16, alpha: 32, targets: 'all-linear' });
    expect(training).toMatchObject({
      learningRate: 1e-3,
      schedule: 'constant',
      warmupSteps: 20,
      weightDecay: 0,
    });
    expect(run).toMatchObject({
      epochs: 1,
      steps: null,
      evaluateEvery: 0,
      checkpointEvery: 100,
      final: 'best',
    });
  });

  it('derive alpha from the rank and the micro-batch from the batch, unless they are given', () => {
    expect(resolveSpec({ ...least, lora: { rank: 8 } }).lora.alpha).toBe(16);
    expect(resolveSpec({ ...least, lora: { rank: 8, alpha: 5 } }).lora.alpha).toBe(5);
    expect(resolveSpec({ ...least, training: { batchSize: 32 } }).training.microBatch).toBe(32);
    expect(resolveSpec({ ...least, training: { batchSize: 2, microBatch: 8 } }).training.microBatch).toBe(2);
  });

  it('share the batch among several devices, unless the micro-batch is given', () => {
    const shared = (training: Record<string, number>, devices: number) => {
      const layer = { ...least, training };
      const { spec, reason } = shareMicroBatch(layer, resolveSpec(layer), devices);
      return [spec.training.microBatch, reason !== null];
    };
    expect(shared({}, 2)).toEqual([4, true]);
    expect(shared({ batchSize: 32 }, 2)).toEqual([16, true]);
    expect(shared({ microBatch: 8 }, 2)).toEqual([8, false]);
    expect(shared({}, 1)).toEqual([8, false]);
  });

  it('merge layers key by key; undefined values count as not given', () => {
    const preset = { lora: { rank: 4, alpha: 32 }, training: { learningRate: 1, batchSize: 2 } };
    const file = { training: { learningRate: 2, schedule: 'cosine' } };
    const flags = { lora: { rank: 8, alpha: undefined }, training: { learningRate: 3 }, seed: undefined };
    expect(mergeLayers(preset, file, flags)).toEqual({
      lora: { rank: 8, alpha: 32 },
      training: { learningRate: 3, batchSize: 2, schedule: 'cosine' },
    });
  });

  it('are refused if they contradict each other', () => {
    const refused = { code: 'USAGE' };
    for (const wrong of [
      { ...least, run: { evaluateEvery: 5 } },
      { ...least, run: { patience: 2 } },
      { ...least, training: { learningRate: -1 } },
      { ...least, lora: { dropout: 1 } },
      // Biases never decay, so this group is refused.
      { ...least, training: { weightDecayGroups: ['bias'] } },
      { ...least, preset: 'best' },
    ]) {
      expect(() => resolveSpec(wrong)).toThrow(expect.objectContaining(refused));
    }
  });
});
