import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  beliefOf,
  CLEAR_ERRORS,
  MAX_OVERSHOOT,
  NEWCOMER_SHARE,
  type Scored,
  sharesOf,
} from '../../../../verify/scores/belief.ts';

const scored = (effect: number, gain: number, earlier: readonly number[] = []): Scored => ({
  effect,
  effectError: 0.1,
  gain,
  gainError: 0.1,
  earlier,
});

test('a share is the smaller of effect and gain over their medians, from 0 to 1', () => {
  const updates = [scored(1, 2), scored(1, 2), scored(2, 4), scored(0.5, 2), scored(1, -1)];
  expect(sharesOf(updates)).toEqual([1, 1, 1, 0.5, 0]);
});

test('identities that have earned nothing do not move the medians', () => {
  const believed = [1, 1, 1];
  const honest = [scored(1, 1, believed), scored(1, 1, believed)];
  const strangers = Array.from({ length: 10 }, () => scored(0.1, 0.2));
  expect(sharesOf([...honest, ...strangers])!.slice(0, 3)).toEqual([1, 1, expect.closeTo(0.1)]);
  const harmless = Array.from({ length: 10 }, () => scored(100, 100));
  expect(sharesOf([...honest, ...harmless])!.slice(0, 2)).toEqual([1, 1]);
});

test('a gain below its own noise does not count, and without any effect nothing can be compared', () => {
  expect(sharesOf([scored(1, 0.05), scored(1, -0.05), scored(0.5, 0.02)])).toEqual([1, 1, 0.5]);
  expect(sharesOf([scored(0, 0.05), scored(-1, 0.05), scored(-1, 0)])).toBeNull();
  expect(sharesOf([scored(0, 1), scored(-1, 1), scored(-1, 1)])).toBeNull();
  expect(sharesOf([])).toBeNull();
});

test('gains of a small swarm count only if their median is clearly above zero', () => {
  const noise = [scored(1, 0.2), scored(1, 0.15), scored(1, -0.1)];
  expect(sharesOf(noise)).toEqual([1, 1, 1]);
  // The median of many gains has a smaller error.
  const many = [...Array<Scored>(9).fill(scored(1, 0.15)), scored(1, -0.1)];
  expect(sharesOf(many)!.at(-1)).toBe(0);
});

/** An update of a job that has almost converged: its effect has a standard error of 1, and its gain is clear. */
const late = (effect: number, gain = 1): Scored => ({ ...scored(effect, gain), effectError: 1 });

test('if effects do not stand out from their noise, and gains do, the share follows mostly from the gain', () => {
  // The differences between these effects are smaller than one standard error.
  const noise = [late(0.6), late(0.1), late(-0.3), late(0.4), late(0.1, 0.5), late(0.1, 0.1)];
  const shares = sharesOf(noise)!;
  expect(shares[2]).toBeGreaterThan(0.75);
  expect(shares.slice(3)).toEqual([1, 0.5, expect.closeTo(0.1)]);
  // An update has the share 0 if its effect is as far below zero as the effect of a harmful update.
  expect(sharesOf([late(0), late(0), late(0), late(-2)])).toEqual([1, 1, 1, 0]);
  // The median effect may be below zero by chance, but not clearly.
  expect(sharesOf([late(-0.5), late(-0.5), late(-0.5)])).toEqual([1, 1, 1]);
  expect(sharesOf([late(-2), late(-2), late(-2)])).toBeNull();
});

test('where effects are clear, their noise changes nothing; where they are not, no share falls (property)', () => {
  const figure = fc.double({ min: -2, max: 2, noNaN: true });
  const one = fc.record({ effect: figure, gain: figure });
  const error = fc.double({ min: 0.001, max: 2, noNaN: true });
  fc.assert(
    fc.property(fc.array(one, { minLength: 3, maxLength: 12 }), error, (given, effectError) => {
      const all = given.map(({ effect, gain }) => ({ ...scored(effect, gain), effectError }));
      const shares = sharesOf(all);
      const exact = sharesOf(all.map((each) => ({ ...each, effectError: 0 })));
      if (exact === null) return;
      const effects = given.map(({ effect }) => effect).sort((a, b) => a - b);
      const isClear = effects[(effects.length - 1) >> 1]! >= CLEAR_ERRORS * effectError;
      for (const [i, share] of shares!.entries()) {
        if (isClear) expect(share).toBe(exact[i]);
        else expect(share).toBeGreaterThanOrEqual(exact[i]! - 1e-12);
      }
    }),
  );
});

test('small differences between exact effects do not count, however small the gain is', () => {
  const exact = (effect: number, steps = 10): Scored => ({
    ...scored(1, 0.03),
    gainError: 0.001,
    exact: { effect, steps },
  });
  // These figures come from a job with so few rows that each interval held all of them twelve times. There, the gain was a
  // twelfth of the exact effect.
  expect(sharesOf([exact(0.39), exact(0.38), exact(0.36)])![2]).toBeGreaterThan(0.4);
  expect(sharesOf([exact(0.39), exact(0.38), exact(0.2)])![2]).toBe(0);
  // An update of twice as many steps need not have twice the effect.
  expect(sharesOf([exact(0.39), exact(0.39), exact(0.39), exact(0.39, 20)])![3]).toBe(1);
});

test('an update that misses the exact effect of its steps by a part of the gain loses as much of its share', () => {
  const exact = (effect: number, steps = 10): Scored => ({ ...scored(1, 1), exact: { effect, steps } });
  const honest = [exact(0.2), exact(0.2), exact(0.2)];
  expect(sharesOf([...honest, exact(0.2 - MAX_OVERSHOOT / 2)])![3]).toBeCloseTo(0.5);
  expect(sharesOf([...honest, exact(0.2 - 2 * MAX_OVERSHOOT)])![3]).toBe(0);
  // A node with few steps does not need as large an effect as a node with many steps.
  expect(sharesOf([...honest, exact(0.06, 3)])![3]).toBe(1);
  expect(sharesOf([...honest, scored(1, 1)])![3]).toBe(1);
});

test('exact effects do not count if fewer than three were measured, or if the gain does not show', () => {
  const bad = { ...scored(1, 1), exact: { effect: -1, steps: 10 } };
  const good = { ...scored(1, 1), exact: { effect: 0.2, steps: 10 } };
  expect(sharesOf([good, bad])).toEqual([1, 1]);
  const silent = [good, good, good, bad].map((one) => ({ ...one, gain: 0.05 }));
  expect(sharesOf(silent)).toEqual([1, 1, 1, 1]);
});

test('a better exact effect never lowers a share, and exact effects never raise one (property)', () => {
  const figure = fc.double({ min: -2, max: 2, noNaN: true });
  const one = fc.record({ effect: figure, gain: figure, exact: figure });
  fc.assert(
    fc.property(fc.array(one, { minLength: 3, maxLength: 12 }), (given) => {
      const all = given.map((each) => ({
        ...scored(each.effect, each.gain),
        exact: { effect: each.exact, steps: 10 },
      }));
      const shares = sharesOf(all);
      const plain = sharesOf(all.map((each) => ({ ...each, exact: null })));
      expect(shares === null).toBe(plain === null);
      for (const [i, share] of (shares ?? []).entries()) expect(share).toBeLessThanOrEqual(plain![i]!);
    }),
  );
});

test('belief is the mean of three shares; a new node has shares of 0.25, and below 0.2 it is nothing', () => {
  expect(beliefOf([])).toBe(NEWCOMER_SHARE);
  expect(beliefOf([0])).toBe(0);
  expect(beliefOf([1])).toBe(0.5);
  expect(beliefOf([1, 1, 1, 0])).toBe(1);
  expect(beliefOf([0, 1, 1])).toBeCloseTo(2 / 3, 2);
  expect(beliefOf([0, 0, 1])).toBeCloseTo(1 / 3, 2);
  expect(beliefOf([0, 0, 0.5])).toBe(0);
});

test('beliefs are multiples of 1/256, so that a weight reveals them exactly', () => {
  const belief = beliefOf([0.7123, 0.61, 0.55]);
  expect(belief * 256).toBe(Math.round(belief * 256));
});
