import { expect, test } from 'vitest';
import { namesMember } from '../../../../node/jobs/head-members.ts';
import type { Head } from '../../../../protocol/messages.ts';

test('a head names the nodes that have work and the authors of merged updates', () => {
  const head = { included: [{ peer: 'author' }], assignments: [{ peer: 'assigned' }] } as unknown as Head;
  expect(namesMember({ head, peer: 'author' })).toBe(true);
  expect(namesMember({ head, peer: 'assigned' })).toBe(true);
  expect(namesMember({ head, peer: 'stranger' })).toBe(false);
  expect(namesMember({ head: null, peer: 'author' })).toBe(false);
});
