import { expect, it } from 'vitest';
import { peerName } from '../../../../node/daemon/peer-name.ts';

it('a peer has one readable name, made from its id', () => {
  const [a, b] = ['a', 'b'].map((c) => `12D3KooW${c.repeat(44)}`) as [string, string];
  expect(peerName(a)).toMatch(/^[a-z]+-[a-z]+$/);
  expect(peerName(a)).toBe(peerName(a));
  expect(peerName(b)).not.toBe(peerName(a));
});
