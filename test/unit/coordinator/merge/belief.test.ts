import { expect, test } from 'vitest';
import { beliefOf, NEWCOMER_SHARE, type Scored, sharesOf } from '../../../../coordinator/merge/belief.ts';

const scored = (effect: number, gain: number, earlier: readonly number[] = []): Scored => ({
  effect,
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
  expect(sharesOf([scored(0, 1), scored(-1, 1), scored(-1, 1)])).toBeNull();
  expect(sharesOf([])).toBeNull();
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
