import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compressUpdate,
  medianNormClip,
  PRESET_NAMES,
  type SparseUpdate,
  toTensors,
  updateNorms,
} from '../../../../lora/update/index.ts';
import { auditFigures, lossDecrease, type RepeatedSteps } from '../../../../lora/update/score.ts';
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

/** A dense update with one tensor. */
const dense = (values: ArrayLike<number>): SparseUpdate => ({
  preset: 'dense',
  tensors: [{ indices: null, values: Float32Array.from(values) }],
});
/**
 * Returns the adapters before some steps, in their middle and after them. The first half of the steps makes the change
 * `first`, and the second half makes the change `second`.
 */
const steps = (first: readonly number[], second: readonly number[]): RepeatedSteps => {
  const middle = Float32Array.from(second);
  const before = [Float32Array.from(first, (value, i) => value + middle[i]!)];
  return { before, middle: [middle], after: [new Float32Array(first.length)] };
};

const SIZE = 16;
const values = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: SIZE, maxLength: SIZE });

describe('the figures of an update and a repetition', () => {
  test('a multiple of the repetition has closeness 1 and balance 1, whatever its size', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0.01, max: 100, noNaN: true }), (all, factor) => {
        // The two halves change different values, so the update's part of each half is well defined.
        const first = all.map((value, i) => (i % 2 === 0 ? value + 2 : 0));
        const second = all.map((value, i) => (i % 2 === 1 ? value - 2 : 0));
        const sum = first.map((value, i) => factor * (value + second[i]!));
        const { closeness, balance } = auditFigures(dense(sum), steps(first, second));
        expect(closeness).toBeCloseTo(1, 4);
        expect(balance).toBeCloseTo(1, 3);
      }),
    );
  });

  test('an update of the first half alone has balance 0, and one of the second half alone has no bound', () => {
    const first = Array.from({ length: SIZE }, (_, i) => Math.sin(i));
    const second = Array.from({ length: SIZE }, (_, i) => Math.cos(3 * i));
    expect(auditFigures(dense(first), steps(first, second)).balance).toBeCloseTo(0, 5);
    expect(auditFigures(dense(second), steps(first, second)).balance).toBeGreaterThan(1e4);
  });

  test('only the values that a sparse update contains count', () => {
    const repeated = steps([1, 2, 3, 4], [1, -2, 3, 40]);
    const tensors = [{ indices: Uint32Array.of(0, 2), values: Float32Array.of(2, 6) }];
    expect(auditFigures({ preset: 'tiny', tensors }, repeated).closeness).toBeCloseTo(1, 6);
  });

  test('zeros are close to nothing, and a flipped update is opposite', () => {
    const some = Array.from({ length: SIZE }, (_, i) => Math.sin(i + 1));
    const none = new Array<number>(SIZE).fill(0);
    expect(auditFigures(dense(none), steps(some, none))).toEqual({ closeness: 0, balance: 0 });
    const flipped = some.map((value) => -value);
    expect(auditFigures(dense(flipped), steps(some, none)).closeness).toBeCloseTo(-1, 6);
  });

  test('a repetition of other tensors is refused', () => {
    expect(() => auditFigures(dense([1]), { ...steps([1], [1]), before: [] })).toThrow(
      withCode('UPDATE_SHAPE'),
    );
  });
});
