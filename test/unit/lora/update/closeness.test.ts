import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { auditFigures, type RepeatedSteps } from '../../../../lora/update/closeness.ts';
import type { SparseUpdate } from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';

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
