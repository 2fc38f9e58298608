import { expect, test } from 'vitest';
import {
  missingRemovals,
  restoreRemovals,
  signedRemovals,
} from '../../../../coordinator/recovery/lost-removals.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/codes.ts';
import { World } from '../world.ts';

const request = { role: 'contributor', uses: 1, expiresAt: null } as const;

test('a record has the revoked invites, only their coordinator can read it, and they are revoked again', async () => {
  const world = await new World({ rounds: { minPeers: 2 } }).start();
  const { context, members } = world.run;
  const { job } = context;
  expect(signedRemovals(context)).toBe(null);
  const [kept, gone] = ['kept', 'gone'].map((name) => members.invites.create({ ...request, name }).invite);
  members.removals.revokeInvite(gone!.id);
  const { author, message } = verifyMessage('removals', signedRemovals(context)!);
  expect(author).toBe(context.deps.network.signer.peerId);
  expect(message).toMatchObject({ job, sequence: 1 });
  expect(Buffer.from(message.sealed).includes(gone!.id)).toBe(false);
  const revokedAt = (id: string) => world.store.invites.all(job).find((one) => one.id === id)!.revokedAt;
  const at = revokedAt(gone!.id);
  world.store.invites.revoke(job, gone!.id, null as never);
  world.store.transaction(() => restoreRemovals(missingRemovals(message.sealed, context), context));
  expect(revokedAt(gone!.id)).toBe(at);
  expect(revokedAt(kept!.id)).toBe(null);
  const damaged = message.sealed.slice();
  damaged[20]! ^= 1;
  expect(() => missingRemovals(damaged, context)).toThrow(withCode('HEAD_UNREADABLE'));
});
