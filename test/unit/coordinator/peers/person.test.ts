import { expect, test } from 'vitest';
import { personOf } from '../../../../coordinator/peers/person.ts';

test('nodes with the same personal invite are one person, and other nodes are one person each', () => {
  expect(personOf({ peer: 'a', invite: 'x' })).toBe('invite:x');
  expect(personOf({ peer: 'b', invite: 'x' })).toBe('invite:x');
  expect(personOf({ peer: 'a', invite: null })).toBe('a');
});
