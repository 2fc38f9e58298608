import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compressUpdate,
  medianNormClip,
  PRESET_NAMES,
  toTensors,
  updateNorms,
} from '../../../../lora/update/index.ts';
import { lossDecrease } from '../../../../lora/update/score.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { scoreUpdate } from '../../../utils/swarm/score-update.ts';
import { layoutOf, randomValues } from '../../../utils/swarm/updates.ts';

const layout = layoutOf([4500, 300, 1]);
const tensorsFrom = (seed: number): Float32Array[] =>
  layout.map(({ shape }, tensor) => randomValues(shape[0]!, 'normal', seed + tensor));
const updateFrom = (seed: number, preset: (typeof PRESET_NAMES)[number]) =>
  compressUpdate(layout, tensorsFrom(seed), preset).update;

const dot = (a: readonly Float32Array[], b: readonly Float32Array[]): number =>
  a.reduce((sum, values, t) => sum + values.reduce((inner, v, i) => inner + v * b[t]![i]!, 0), 0);

describe('scores', () => {
  test('are inner products with the update as it was sent', () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...PRESET_NAMES), (seed, preset) => {
        const update = updateFrom(seed, preset);
        const gradient = tensorsFrom(seed + 100);
        const exact = dot(gradient, toTensors(layout, update));
        expect(lossDecrease(gradient, update)).toBeCloseTo(exact, 6);
        const halves = layout.map(() => 0.5);
        expect(lossDecrease(gradient, update, halves)).toBeCloseTo(exact / 2, 6);
      }),
    );
  });

  test('change their sign with the update, and are 0 for one that changes nothing', () => {
    const gradients = [1, 2, 3].map(tensorsFrom);
    const own = tensorsFrom(4);
    const update = updateFrom(5, 'balanced');
    const flipped = {
      tensors: update.tensors.map(({ indices, values }) => ({ indices, values: values.map((v) => -v) })),
    };
    const score = scoreUpdate(update, { random: gradients, own });
    const other = scoreUpdate({ ...update, ...flipped }, { random: gradients, own });
    expect(other.effect).toBeCloseTo(-score.effect, 9);
    expect(other.gain).toBeCloseTo(-score.gain, 9);
    expect(other.effectError).toBeCloseTo(score.effectError, 9);
    const zero = compressUpdate(
      layout,
      layout.map(({ shape }) => new Float32Array(shape[0]!)),
      'dense',
    ).update;
    expect(scoreUpdate(zero, { random: gradients, own })).toEqual({ effect: 0, effectError: 0, gain: 0 });
  });

  test('give the mean over the batches, its standard error, and the difference on the own rows', () => {
    const update = updateFrom(1, 'dense');
    const random = [2, 3, 4, 5].map(tensorsFrom);
    const own = tensorsFrom(6);
    const each = random.map((gradient) => lossDecrease(gradient, update));
    const mean = each.reduce((sum, v) => sum + v, 0) / 4;
    const variance = each.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 3;
    const { effect, effectError, gain } = scoreUpdate(update, { random, own });
    expect(effect).toBeCloseTo(mean, 9);
    expect(effectError).toBeCloseTo(Math.sqrt(variance / 4), 9);
    expect(gain).toBeCloseTo(lossDecrease(own, update) - mean, 9);
    expect(scoreUpdate(update, { random: random.slice(0, 1), own }).effectError).toBe(0);
  });

  test('do not grow when an update is scaled up, after clipping to the median norm', () => {
    const honest = [1, 2, 3].map((seed) => updateFrom(seed, 'dense'));
    const scaled = {
      ...honest[0]!,
      tensors: honest[0]!.tensors.map(({ indices, values }) => ({
        indices,
        values: values.map((v) => 100 * v),
      })),
    };
    const gradient = tensorsFrom(9);
    const scoreIn = (updates: typeof honest): number =>
      lossDecrease(gradient, updates[0]!, medianNormClip(updates.map(updateNorms))[0]);
    const [alone, grown] = [scoreIn(honest), scoreIn([scaled, ...honest.slice(1)])];
    expect(Math.abs(grown)).toBeLessThan(3 * Math.abs(alone));
    expect(Math.sign(grown)).toBe(Math.sign(alone));
  });

  test('refuse a gradient of another adapter', () => {
    const update = updateFrom(1, 'dense');
    expect(() => lossDecrease(tensorsFrom(2).slice(1), update)).toThrow(withCode('UPDATE_SHAPE'));
  });
});
