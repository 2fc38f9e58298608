import { expect, test } from 'vitest';
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
