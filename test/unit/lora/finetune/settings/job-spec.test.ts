import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../../common/errors.ts';
import { type JobSpecInput, parseJobSpec } from '../../../../../lora/finetune/settings/job-spec.ts';
import { resolveSpec } from '../../../../../lora/finetune/settings/settings.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const MINIMAL: JobSpecInput = { name: 'whale', base: '/base', data: { train: '/data' } };

function problemsOf(spec: unknown): unknown {
  try {
    parseJobSpec(spec);
  } catch (error) {
    if (isSwarmError(error, 'JOB_SPEC')) return error.values.problems;
    throw error;
  }
  return null;
}

describe('parseJobSpec', () => {
  test('fills in every default', () => {
    expect(parseJobSpec(MINIMAL)).toMatchObject({
      data: { train: '/data', heldOut: 0.1 },
      lora: { rank: 16, alpha: 32, targets: 'all-linear', useDora: false },
      rounds: { count: 8, localSteps: 20, minPeers: 2, preset: 'auto' },
      acceptance: { tolerance: 0.002, heldOutRows: 64 },
      admission: 'open',
      seed: 0,
    });
  });

  test('fills in the defaults that follow from other settings as a run on one machine does', () => {
    const own: JobSpecInput[] = [
      { ...MINIMAL, lora: { rank: 4 } },
      { ...MINIMAL, lora: { rank: 8, alpha: 5 } },
      { ...MINIMAL, training: { batchSize: 4 } },
      { ...MINIMAL, training: { batchSize: 2, microBatch: 8 } },
    ];
    const shown = own.map((spec) => {
      const { lora, training } = parseJobSpec(spec);
      const run = resolveSpec({
        base: '/base',
        data: { train: '/data' },
        lora: spec.lora ?? {},
        training: spec.training ?? {},
      });
      expect({ lora: run.lora, training: run.training }).toEqual({ lora, training });
      return [lora.rank, lora.alpha, training.batchSize, training.microBatch];
    });
    expect(shown).toEqual([
      [4, 8, 8, 8],
      [8, 5, 8, 8],
      [16, 32, 4, 4],
      [16, 32, 2, 2],
    ]);
    expect(parseJobSpec({ ...MINIMAL, training: { batchSize: 32 } }).training.microBatch).toBe(8);
  });

  test('names only the rank if the rank is wrong', () => {
    for (const rank of [-1, 0, 1e6]) expect(problemsOf({ ...MINIMAL, lora: { rank } })).toHaveLength(1);
  });

  test.each([
    [{ ...MINIMAL, nmae: 1 }, 'nmae', 'name'],
    [{ ...MINIMAL, data: { train: '/d', heldout: 0.2 } }, 'data.heldout', 'data.heldOut'],
    [{ ...MINIMAL, training: { learning_rate: 1 } }, 'training.learning_rate', 'training.learningRate'],
    [{ ...MINIMAL, rounds: { localStep: 1 } }, 'rounds.localStep', 'rounds.localSteps'],
    [{ ...MINIMAL, lora: { ranks: 8 } }, 'lora.ranks', 'lora.rank'],
    [{ ...MINIMAL, tasks: { files: ['/t'], metrics: 'a' } }, 'tasks.metrics', 'tasks.metric'],
  ])('an unknown key is an error that says what was meant', (spec, key, meant) => {
    expect(problemsOf(spec)).toEqual([expect.stringMatching(`"${key}".*"${meant}"`)]);
  });

  test('lists all keys for a key that resembles none', () => {
    expect(problemsOf({ ...MINIMAL, acceptance: { banana: 1 } })).toEqual([
      expect.stringMatching(/"acceptance\.banana".*acceptance\.tolerance, acceptance\.heldOutRows/),
    ]);
  });

  test.each([
    [{ ...MINIMAL, name: '../up' }, 'name'],
    [{ ...MINIMAL, name: 'base' }, 'name'],
    [{ ...MINIMAL, data: { train: '/d', heldOut: 1 } }, 'data.heldOut'],
    [{ ...MINIMAL, admission: 'nobody' }, 'admission'],
    [{ ...MINIMAL, seed: -1 }, 'seed'],
    [{ ...MINIMAL, rounds: { minPeers: 0 } }, 'rounds.minPeers'],
    [{ name: 'whale', data: { train: '/d' } }, 'base'],
    ['a text', ''],
  ])('names the field that is wrong', (spec, field) => {
    expect(() => parseJobSpec(spec)).toThrow(withCode('JOB_SPEC', { field }));
  });
});
