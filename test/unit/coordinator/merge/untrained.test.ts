import { expect, test } from 'vitest';
import { type JudgedSource, untrainedUpdates } from '../../../../coordinator/merge/untrained.ts';

/** An update whose author was believed before. */
const update = (effect: number, gain: number, share: number | null, effectError = 0.1): JudgedSource => ({
  figures: { effect, effectError, gain, exact: null, ownRows: 8 },
  share,
  steps: 1,
  earlier: [1, 1, 1],
});

test('where effects are clear, the share decides', () => {
  const honest = [update(1, 1, 1), update(1, 1, 0.9), update(0.9, 1, 0.2)];
  expect(untrainedUpdates([...honest, update(0.1, 1, 0.1), update(1, 0, 0), update(1, 1, null)])).toEqual([
    false,
    false,
    false,
    true,
    true,
    false,
  ]);
});

test('where effects are noise and gains are clear, the gain decides, and a low effect costs no weight', () => {
  const noise = [update(0.1, 1, 1), update(0.2, 1.2, 1), update(-0.1, 1, 0.15), update(0.05, 0.9, 0.9)];
  expect(untrainedUpdates([...noise, update(0.1, 0.1, 0.1), update(0.1, -1, 0)])).toEqual([
    false,
    false,
    false,
    false,
    true,
    true,
  ]);
});

test('where neither is clear, no update counts as untrained', () => {
  expect(untrainedUpdates([update(0.1, 0.1, 1), update(0, -0.1, 0), update(0.1, 0, 0)])).toEqual([
    false,
    false,
    false,
  ]);
  expect(untrainedUpdates([{ figures: null, share: 0, steps: 1, earlier: [] }])).toEqual([false]);
});
