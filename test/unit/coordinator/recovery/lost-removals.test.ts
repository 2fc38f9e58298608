import { expect, test } from 'vitest';
import {
  encodeRemovals,
  missingRemovals,
  REMOVALS_BYTES,
  removalsContentSchema,
  restoreRemovals,
  signedRemovals,
} from '../../../../coordinator/recovery/lost-removals.ts';
import { decodeCbor } from '../../../../protocol/cbor.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { training } from '../scripted-peer.ts';
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

/** Returns the bans of the record that nodes get now. */
function bansOf({ run: { context } }: World) {
  const { sealed } = verifyMessage('removals', signedRemovals(context)!).message;
  return decodeCbor(context.keys.decryptOwn(sealed), removalsContentSchema, REMOVALS_BYTES).bans;
}

test('the longest record is small enough for the nodes, and has all removals', () => {
  const at = 2 ** 50;
  const invites = Array.from({ length: 1024 }, () => ({ id: 'i'.repeat(32), revokedAt: at }));
  const shared = { revokedAt: at, tokenDigest: 'd'.repeat(64) };
  const ban = { peer: 'p'.repeat(128), person: 'q'.repeat(128), job: null, cause: 'operator', at } as const;
  for (const letter of ['a', '禁', '🚫']) {
    const reason = `x${letter.repeat(300)}`;
    const bans = Array.from({ length: 128 }, () => ({ ...ban, reason, until: at }));
    const bytes = encodeRemovals({ invites, shared, bans });
    const content = decodeCbor(bytes, removalsContentSchema, REMOVALS_BYTES);
    expect(content.invites).toHaveLength(1024);
    expect(content.bans).toHaveLength(128);
    expect(reason.startsWith(content.bans[0]!.reason.slice(0, 49))).toBe(true);
  }
  const [short] = decodeCbor(
    encodeRemovals({ invites: [], shared: null, bans: [{ ...ban, reason: '禁'.repeat(300), until: null }] }),
    removalsContentSchema,
    REMOVALS_BYTES,
  ).bans;
  expect(short!.reason).toHaveLength(200);
});

test('bans of other jobs and of throw-away identities do not displace bans of the operator', async () => {
  const world = await new World().start();
  const { context } = world.run;
  const { job } = context;
  const at = world.clock.now();
  const ban = { reason: '', at, until: null };
  world.store.bans.insert({ ...ban, peer: 'old', person: 'old', job: null, cause: 'operator' });
  world.store.bans.insert({ ...ban, peer: 'guest', person: 'invite:1', job, cause: 'proof' });
  for (let i = 0; i < 200; i++) {
    const peer = `new ${i}`;
    world.store.bans.insert({ ...ban, peer, person: peer, job, cause: 'proof' });
  }
  context.keys.rotate();
  const bans = bansOf(world);
  expect(bans).toHaveLength(128);
  expect(bans.slice(0, 3).map(({ peer }) => peer)).toEqual(['old', 'guest', 'new 199']);
  expect(world.store.bans.applyingTo('another job', at, 128).map(({ peer }) => peer)).toEqual(['old']);
});

test('a pardon raises the number of the record, and the record no longer has the ban', async () => {
  const world = new World();
  await training(world, 3);
  const { keys } = world.run.context;
  const { peer } = world.run.members.list.all()[0]!;
  world.coordinator.pardon(peer, { job: null });
  expect(keys.removals).toBe(0);
  world.coordinator.ban(peer, { job: null, reason: '', until: null });
  expect(keys.removals).toBe(1);
  expect(bansOf(world)).toMatchObject([{ peer }]);
  world.coordinator.pardon(peer, { job: null });
  expect(keys.removals).toBe(2);
  expect(bansOf(world)).toEqual([]);
});

test('members share one signed record, and each gets the same number once a minute', async () => {
  const world = new World();
  const { peers } = await training(world, 3);
  const [first, second, gone] = peers;
  const { job } = world.toy;
  const get = async (peer = first) => (await peer!.ask('head', { job, removals: 0 })).removals;
  expect(await get()).toBeUndefined();
  world.coordinator.ban(gone!.id, { job: null, reason: '', until: null });
  const record = await get();
  expect(verifyMessage('removals', record!).message.sequence).toBe(1);
  expect(await get()).toBeUndefined();
  expect(await get(second)).toEqual(record);
  world.coordinator.pardon(gone!.id, { job: null });
  expect(verifyMessage('removals', (await get())!).message.sequence).toBe(2);
  // The ban of a stranger does not change the number of the record. The coordinator signs the record again after a
  // minute, and then it has this ban too.
  world.coordinator.ban(signerOf(90).peerId, { job: null, reason: '', until: null });
  await world.pass(60_000);
  for (const peer of [first!, second!]) await peer.join();
  const { sealed } = verifyMessage('removals', (await get())!).message;
  const content = world.run.context.keys.decryptOwn(sealed);
  expect(decodeCbor(content, removalsContentSchema, REMOVALS_BYTES).bans).toHaveLength(1);
});
