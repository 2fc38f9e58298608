import { expect, test } from 'vitest';
import { encodeCbor } from '../../../../protocol/cbor.ts';
import { MemoryBlobs } from '../../../utils/virtual/memory-blobs.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { COORDINATOR, World, type WorldOptions } from '../world.ts';

const INVITE: WorldOptions = { admission: { kind: 'invite' }, token: 'secret' };

/** Returns the digests that a peer can fetch from the coordinator, out of those given. */
async function fetched(world: World, peer: ScriptedPeer, blobs: readonly Blob[]): Promise<string[]> {
  const found: string[] = [];
  // With this request, the peer connects to the coordinator.
  await peer.ask('jobs', { invite: null });
  for (const blob of blobs) {
    const fetch = peer.host.fetchBlob(blob, {
      holders: [COORDINATOR.peerId],
      signal: new AbortController().signal,
    });
    await world.settle(fetch).then(
      () => found.push(blob.digest),
      () => {},
    );
  }
  return found;
}

interface Blob {
  digest: string;
  size: number;
}

/** The blobs of a toy job: base, data and first adapter, and the body of the first checkpoint. */
function jobBlobs(world: World): Blob[] {
  const { manifest } = world.toy;
  const { digest, checkpoint } = world.run.record.checkpoint;
  return [
    ...manifest.base.files,
    ...manifest.data.shards,
    manifest.adapter.initial,
    { digest, size: encodeCbor(checkpoint).byteLength },
  ].map(({ digest, size }) => ({ digest, size }));
}

test('blobs of a job that needs an invite go only to its members and readers', async () => {
  const world = await new World(INVITE).start();
  const blobs = jobBlobs(world);
  const all = blobs.map(({ digest }) => digest);
  const [stranger, member, reader] = [1, 2, 3].map((number) => new ScriptedPeer(number, world));
  await member!.join('secret');
  await reader!.ask('manifest', { job: world.toy.job, invite: 'secret' });
  expect(await fetched(world, stranger!, blobs)).toEqual([]);
  expect(await fetched(world, member!, blobs)).toEqual(all);
  expect(await fetched(world, reader!, blobs)).toEqual(all);
});

test('blobs of an open job go to every peer, but blobs of no job go to none', async () => {
  const world = await new World().start();
  const { clock, random } = world;
  const store = new MemoryBlobs({ disk: world.disk, clock, random, isAlive: () => true });
  const putting = store.put(Uint8Array.of(1, 2, 3));
  const loose = { digest: await world.settle(putting), size: 3 };
  const blobs = jobBlobs(world);
  const stranger = new ScriptedPeer(1, world);
  expect(await fetched(world, stranger, [...blobs, loose])).toEqual(blobs.map(({ digest }) => digest));
});

test('no peer gets an update while its round is open; then contributors of a closed job do not get it either', async () => {
  const cases = [
    [INVITE, 'secret', 'contributor', false],
    [INVITE, 'secret', 'observer', true],
    [INVITE, 'secret', 'operator', true],
    [{}, null, 'contributor', true],
  ] as const;
  for (const [options, invite, role, readable] of cases) {
    const world = new World({ ...options, rounds: { minPeers: 2, count: 1, quorum: 1 } });
    const { peers, head } = await training(world, 2, invite);
    const [author, other] = peers as [ScriptedPeer, ScriptedPeer];
    const { members } = world.run;
    // In a real job, a role comes from a personal invite. Here, the list of members claims that the peer has the role.
    const get = members.list.get.bind(members.list);
    members.list.get = (peer) => (peer === other.id ? { ...get(peer)!, role } : get(peer));
    // The payloads have different proportions. If they were equal, the merged delta could have the same bytes as a payload.
    const update = author.update(head, {}, author.payload([0.05, 0.01], head.preset));
    await author.submit(author.seal(update));
    expect(await fetched(world, other, [update.payload]), role).toEqual([]);
    await other.submit(other.seal(other.update(head, {}, other.payload([0.01, 0.05], head.preset))));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect(await fetched(world, other, [update.payload]), role).toEqual(
      readable ? [update.payload.digest] : [],
    );
  }
});

test('a reader with the invite of an observer gets the updates of a closed round', async () => {
  const world = new World({ ...INVITE, rounds: { minPeers: 2, count: 1, quorum: 1 } });
  const { peers, head } = await training(world, 2, 'secret');
  const [author, second] = peers as [ScriptedPeer, ScriptedPeer];
  const { invites } = world.run.members;
  const [observer, contributor] = (['observer', 'contributor'] as const).map((role) =>
    invites.create({ name: role, role, uses: 1, expiresAt: null }),
  );
  const [reader, other] = [8, 9].map((number) => new ScriptedPeer(number, world));
  const { job } = world.toy;
  await reader!.ask('manifest', { job, invite: observer!.token });
  await other!.ask('manifest', { job, invite: contributor!.token });
  const update = author.update(head, {}, author.payload([0.05, 0.01], head.preset));
  await author.submit(author.seal(update));
  await second.submit(second.seal(second.update(head, {}, second.payload([0.01, 0.05], head.preset))));
  await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
  expect(await fetched(world, other!, [update.payload])).toEqual([]);
  expect(await fetched(world, reader!, [update.payload])).toEqual([update.payload.digest]);
});

test('contributors of a closed job do not get an update that is kept for an audit either', async () => {
  const world = new World({ ...INVITE, rounds: { minPeers: 2 } });
  const { peers, head } = await training(world, 2, 'secret');
  const [author, other] = peers as [ScriptedPeer, ScriptedPeer];
  const update = author.update(head);
  await author.submit(author.seal(update));
  world.store.blobs.use(world.toy.job, 'audit', 0, [update.payload.digest]);
  expect(await fetched(world, other, [update.payload])).toEqual([]);
});

test('a reader whose invite is revoked reads no longer', async () => {
  const world = await new World(INVITE).start();
  const reader = new ScriptedPeer(1, world);
  await reader.ask('manifest', { job: world.toy.job, invite: 'secret' });
  const [blob] = jobBlobs(world);
  expect(world.run.mayRead(reader.id)).toBe(true);
  world.run.members.removals.revokeInvite(null);
  expect(await fetched(world, reader, [blob!])).toEqual([]);
});
