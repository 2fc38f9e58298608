import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { choosePreset, PRESETS, type PresetInput, rateForWidth } from '../../../../lora/train/presets.ts';

const facts = (tokens: number, change: Partial<PresetInput['data']> = {}): PresetInput['data'] => ({
  tokens,
  commonLength: 300,
  plainText: false,
  heldOut: true,
  rows: (length) => Math.ceil(tokens / length),
  ...change,
});

const input = (change: Partial<PresetInput> = {}): PresetInput => ({
  model: { family: 'llama', hiddenSize: 576, maxPositions: 2048, parametersPerRank: 300_000 },
  data: facts(400_000),
  given: {},
  fits: () => true,
  ...change,
});

function chosen(...parameters: Parameters<typeof choosePreset>): Record<string, number | string> {
  return Object.fromEntries(choosePreset(...parameters).map(({ field, value }) => [field, value]));
}

describe('presets', () => {
  it('give the learning rates of the Tinker cookbook', () => {
    expect(rateForWidth('llama', 2048)).toBeCloseTo(4.9e-4);
    expect(rateForWidth('qwen3', 2560)).toBeCloseTo(4.9e-4);
    expect(rateForWidth('llama', 192)).toBeCloseTo(3.1e-3);
    expect(rateForWidth('gpt2', 768)).toBe(rateForWidth('qwen2', 768));
  });

  it('choose rank, rate, schedule, batch and length from the model and the data', () => {
    expect(chosen('auto', input())).toEqual({
      'lora.rank': 16,
      'lora.alpha': 32,
      'training.sequenceLength': 512,
      'training.batchSize': 16,
      'run.epochs': 3,
      'training.microBatch': 16,
      'training.learningRate': 1.3e-3,
      'training.schedule': 'cosine',
      'training.warmupRatio': 0.05,
      'run.evaluateEvery': 14,
    });
  });

  it('raise the rank with the data, up to a limit', () => {
    const data = facts(8_000_000);
    expect(chosen('auto', input({ data }))).toMatchObject({ 'lora.rank': 32, 'run.epochs': 1 });
    const huge = facts(1e12);
    expect(chosen('auto', input({ data: huge }))['lora.rank']).toBe(64);
    expect(chosen('quick', input({ data: huge }))).toMatchObject({ 'lora.rank': 8, 'run.steps': 100 });
  });

  it('choose smaller batches for little data, and smaller micro-batches for little memory', () => {
    const data = facts(20_000, { heldOut: false });
    const found = chosen('auto', input({ data, fits: ({ microBatch }) => microBatch <= 1 }));
    expect(found).toMatchObject({ 'training.batchSize': 2, 'training.microBatch': 1 });
    expect(found).not.toHaveProperty('run.evaluateEvery');
  });

  it('keep the given settings, and choose the others to fit', () => {
    const given = { rank: 4, batchSize: 32, microBatch: 2, sequenceLength: 128, epochs: 1, steps: 1000 };
    expect(chosen('thorough', input({ given }))).toEqual({
      'lora.alpha': 32,
      'training.learningRate': 1.3e-3,
      'training.schedule': 'cosine',
      'training.warmupRatio': 0.05,
      'run.evaluateEvery': 50,
      'run.patience': 4,
    });
  });

  it('choose smaller micro-batches if several devices share each batch', () => {
    const microBatch = (change: Partial<PresetInput>) => chosen('auto', input(change))['training.microBatch'];
    expect([2, 3].map((devices) => microBatch({ devices }))).toEqual([8, 6]);
    expect(microBatch({ devices: 2, fits: (size) => size.microBatch <= 3 })).toBe(2);
    const choices = choosePreset('auto', input({ devices: 2 }));
    expect(choices.find(({ field }) => field === 'training.microBatch')!.why).toContain('2 devices');
  });

  it('do not shorten the given epochs', () => {
    const data = facts(8_000_000);
    expect(chosen('quick', input({ data, given: { epochs: 2 } }))).not.toHaveProperty('run.steps');
  });

  it('stay within the limits of model and settings, with a reason and a source for every choice', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...PRESETS),
        fc.record({
          family: fc.constantFrom('llama', 'qwen2', 'gpt2', 'gemma3_text'),
          hiddenSize: fc.integer({ min: 8, max: 20_000 }),
          maxPositions: fc.integer({ min: 8, max: 200_000 }),
          parametersPerRank: fc.integer({ min: 1, max: 1e8 }),
        }),
        fc.record({
          tokens: fc.integer({ min: 1, max: 1e11 }),
          commonLength: fc.integer({ min: 1, max: 1e6 }),
          plainText: fc.boolean(),
          heldOut: fc.boolean(),
        }),
        fc.boolean(),
        (name, model, data, roomy) => {
          const choices = choosePreset(name, {
            model,
            data: facts(data.tokens, data),
            given: {},
            fits: () => roomy,
          });
          const values = Object.fromEntries(choices.map(({ field, value }) => [field, value]));
          expect(values['training.sequenceLength']).toBeLessThanOrEqual(model.maxPositions);
          expect(values['training.batchSize']).toBeLessThan(32);
          expect(values['training.microBatch']).toBeLessThanOrEqual(Number(values['training.batchSize']));
          expect(Number.isInteger(values['training.microBatch'])).toBe(true);
          expect(values['training.learningRate']).toBeGreaterThan(0);
          expect(values['training.learningRate']).toBeLessThanOrEqual(1);
          for (const { why, source } of choices)
            expect(Math.min(why.length, source.length)).toBeGreaterThan(0);
        },
      ),
    );
  });
});
