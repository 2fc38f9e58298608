import { expect, test } from 'vitest';
import { Store } from '../../../../coordinator/store/store.ts';
import { bannedPeers, momentAfter, NO_MOMENT } from '../../../../monitor/replay.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

test('a node that joins again after its ban keeps the counts of its updates', async () => {
  const world = new World();
  const { peers, head } = await training(world, 2);
  const [peer] = peers as [ScriptedPeer];
  await peer.submit(peer.seal(peer.update(head)));
  const { accepted, refused } = world.run.receipts.tally(peer.id);
  expect(accepted).toBe(1);
  world.coordinator.ban(peer.id, { job: null, reason: '', until: null });
  world.coordinator.pardon(peer.id, { job: null });
  await peer.join();
  const tally = world.run.receipts.tally(peer.id);
  // The removal withdraws the update that no merge had taken, so it has a second receipt.
  expect(tally).toMatchObject({ accepted, last: { code: 'not-admitted' } });
  expect(tally.refused).toBe(refused + 1);
});

test('a ban from all jobs is recorded once, also if the node has an invite in one of them', async () => {
  const world = await new World().start();
  const prepared = world.prepared();
  const other = { ...prepared.manifest, name: 'next' };
  const creating = world.coordinator.create({ ...prepared, content: 'next', manifest: other });
  const { run } = await world.settle(creating);
  const peer = new ScriptedPeer(1, world);
  await peer.join();
  const { invite, token } = run.members.invites.create({
    name: 'dora',
    role: 'contributor',
    uses: 1,
    expiresAt: null,
  });
  peer.job = run.context.job;
  await peer.join(token);
  const bans = () => world.store.bans.inForce(world.clock.now(), 10);
  for (const time of ['first', 'second']) {
    world.coordinator.ban(peer.id, { job: null, reason: 'spam', until: null });
    expect(bans(), time).toMatchObject([{ peer: peer.id, person: `invite:${invite.id}`, job: null }]);
  }
  for (const { context, members } of world.coordinator.jobs()) {
    expect(members.list.has(peer.id)).toBe(false);
    const events = world.store.events.after(context.job, 0, 100).map(({ type }) => type);
    expect(events).toContain('banned');
  }
  world.coordinator.pardon(peer.id, { job: null });
  expect(bans()).toEqual([]);
});

test('a pardon in all jobs is recorded in each job whose bans it lifts, also if it names another node of the person', async () => {
  const world = await new World().start();
  const prepared = world.prepared();
  const manifest = { ...prepared.manifest, name: 'next' };
  const { run } = await world.settle(world.coordinator.create({ ...prepared, content: 'next', manifest }));
  const invite = { name: 'dora', role: 'contributor', uses: 2, expiresAt: null } as const;
  const { token } = run.members.invites.create(invite);
  const [one, two] = [new ScriptedPeer(1, world), new ScriptedPeer(2, world)];
  const shown = () =>
    world.coordinator.jobs().map(({ context }) => {
      const events = world.store.events.after(context.job, 0, 100);
      return bannedPeers(events.reduce(momentAfter, NO_MOMENT));
    });
  const removals = () => world.coordinator.jobs().map(({ context }) => context.keys.removals);
  for (const pardoned of [one, two]) {
    for (const peer of [one, two]) {
      peer.job = world.toy.job;
      await peer.join();
      peer.job = run.context.job;
      await peer.join(token);
    }
    world.coordinator.ban(one.id, { job: null, reason: 'spam', until: null });
    world.coordinator.ban(one.id, { job: world.toy.job, reason: 'noise', until: null });
    world.coordinator.pardon(one.id, { job: world.toy.job });
    expect(shown(), 'the ban from all jobs stays').toEqual([[one.id], [one.id]]);
    const before = removals();
    world.coordinator.pardon(pardoned.id, { job: null });
    expect(shown()).toEqual([[], []]);
    // The nodes of each job must replace their records, which still have the ban.
    expect(removals()).toEqual(before.map((count) => count + 1));
  }
});

test('a ban that an older version recorded several times is shown, counted and passed on once', () => {
  const { bans } = new Store(':memory:');
  const [peer, person] = ['ann', 'invite:1'];
  const ban = { peer, person, job: null, cause: 'operator', reason: 'spam', at: 1, until: null } as const;
  for (const at of [1, 2]) bans.insert({ ...ban, at });
  bans.insert({ ...ban, person: peer, at: 3 });
  bans.insert({ ...ban, reason: 'again', at: 4 });
  const reasons = (found: readonly { reason: string }[]) => found.map(({ reason }) => reason);
  for (const found of [bans.inForce(9, 10), bans.applyingTo('job', 9, 10)])
    expect(reasons(found)).toEqual(['again', 'spam']);
  expect(bans.of({ peer, person })).toMatchObject([{ person, at: 1 }, { reason: 'again' }]);
  expect(bans.has({ peer, at: 3 }), 'a repetition is known, and is not added once more').toBe(true);
  expect(bans.pardonable({ peer, person }, null, 5)).toHaveLength(2);
  bans.pardon({ peer, person }, null, 5);
  expect(bans.inForce(9, 10)).toEqual([]);
  expect(bans.of({ peer, person })).toHaveLength(2);
});
