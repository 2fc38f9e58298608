import { expect, test } from 'vitest';
import { compareLosses, type Point } from '../../../scripts/chaos/compare.ts';

const calm: Point[] = [
  { tokens: 0, loss: 4 },
  { tokens: 100, loss: 3 },
  { tokens: 200, loss: 2 },
  { tokens: 300, loss: 1 },
];

test('compares the newest checkpoint with the first one that has at least as many tokens', () => {
  const run = [
    { tokens: 0, loss: 4 },
    { tokens: 50, loss: 3.5 },
    { tokens: 120, loss: 2.1 },
  ];
  const compared = compareLosses(run, calm);
  expect(compared).toMatchObject({ tokens: 120, checkpoints: [3, 3], loss: 2.1, expected: 2 });
  expect(compared.excess).toBeCloseTo(0.05);
});

test('leaves out checkpoints without a loss', () => {
  const run = [
    { tokens: 100, loss: 3 },
    { tokens: 150, loss: null },
  ];
  expect(compareLosses(run, calm)).toMatchObject({ tokens: 100, checkpoints: [1, 2] });
  const unmeasured = calm.with(1, { tokens: 100, loss: null });
  expect(compareLosses(run, unmeasured)).toMatchObject({ expected: 2 });
});

test('refuses a run without faults that has trained too few tokens', () => {
  expect(() => compareLosses([{ tokens: 301, loss: 1 }], calm)).toThrow('300 of 301');
  expect(() => compareLosses([{ tokens: 1, loss: null }], calm)).toThrow(/\bcheckpoint\b/);
});
