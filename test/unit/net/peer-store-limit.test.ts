import { expect, it } from 'vitest';
import { PeerStoreLimit } from '../../../net/peer-store-limit.ts';

it('forgets the peers that disconnected first, and never a connected one', () => {
  const forgotten: string[] = [];
  const limit = new PeerStoreLimit({ forget: (peer) => forgotten.push(peer) });
  limit.disconnected('reconnected');
  limit.connected('reconnected');
  limit.disconnected('twice');
  for (let i = 0; i < 2_047; i++) limit.disconnected(`peer ${i}`);
  limit.disconnected('twice');
  expect(forgotten).toEqual([]);
  for (let i = 2_047; i < 2_050; i++) limit.disconnected(`peer ${i}`);
  expect(forgotten).toEqual(['peer 0', 'peer 1', 'peer 2']);
});
