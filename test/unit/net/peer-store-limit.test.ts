import { expect, test } from 'vitest';
import { PeerStoreLimit } from '../../../net/peer-store-limit.ts';

test('of peers that come and go the newest are remembered, and never one that is connected forgotten', () => {
  const forgotten: string[] = [];
  const met = new PeerStoreLimit({ forget: (peer) => forgotten.push(peer) });
  met.disconnected('back again');
  met.connected('back again');
  met.disconnected('seen twice');
  for (let i = 0; i < 2_047; i++) met.disconnected(`stranger ${i}`);
  met.disconnected('seen twice');
  expect(forgotten).toEqual([]);
  for (let i = 2_047; i < 2_050; i++) met.disconnected(`stranger ${i}`);
  expect(forgotten).toEqual(['stranger 0', 'stranger 1', 'stranger 2']);
});
