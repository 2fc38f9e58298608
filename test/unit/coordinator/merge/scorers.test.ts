import { expect, test } from 'vitest';
import { scaleOf } from '../../../../coordinator/merge/scorers.ts';

test('a node cannot widen the tolerance of the spot check with one huge answer', () => {
  const honest = [1, -2, 3, -1, 2];
  expect(scaleOf(honest, [1.5])).toBe(2);
  expect(scaleOf([...honest.slice(1), 1e30], [1.5])).toBe(2);
  // The figures of an update that is larger than the others are compared with themselves.
  expect(scaleOf(honest, [-40, 3])).toBe(40);
  expect(scaleOf([], [0.5])).toBe(0.5);
});
