import { expect, test } from 'vitest';
import { peerLines, presentLines } from '../../../../cli/views/peers.ts';
import { PeerViews } from '../../../../coordinator/api/peer-views.ts';
import { waitingNodes } from '../../../../coordinator/api/waiting-view.ts';
import {
  clockHold,
  REFUSED_NODES,
  REFUSED_PER_ADDRESS,
  RefusedNodes,
} from '../../../../coordinator/peers/refused-nodes.ts';
import type { OtherVersion } from '../../../../net/network.ts';
import { CLOCK_SKEW_MS, PEER_LOST_AFTER_MS } from '../../../../protocol/limits.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

const node = { name: 'n', engine: 'e', hold: clockHold(90_000) };

function setUp() {
  const clock = new ManualClock();
  const addresses = new Map<string, string>();
  const network = { networkOf: (peer: string) => addresses.get(peer) ?? peer };
  return { clock, addresses, refused: new RefusedNodes({ clock, network }) };
}

test('a refused node is known for two minutes after its last refusal, or until its clock is right', () => {
  const { clock, refused } = setUp();
  expect(refused.note('a', node)).toBe(true);
  clock.advance(60_000);
  expect(refused.note('a', node)).toBe(false);
  expect(refused.note('b', node)).toBe(true);
  clock.advance(119_000);
  expect(refused.all().map(({ peer }) => peer)).toEqual(['a', 'b']);
  refused.forget('b');
  expect(refused.get('b')).toBeNull();
  clock.advance(2_000);
  expect(refused.all()).toEqual([]);
});

test('one address cannot displace the nodes of other addresses, and the number of nodes is limited', () => {
  const { addresses, refused } = setUp();
  refused.note('honest', node);
  for (let i = 0; i < 2 * REFUSED_PER_ADDRESS; i++) {
    addresses.set(`crowd ${i}`, 'one address');
    refused.note(`crowd ${i}`, node);
  }
  expect(refused.all()).toHaveLength(1 + REFUSED_PER_ADDRESS);
  expect(refused.get('honest')).not.toBeNull();
  for (let i = 0; i < 2 * REFUSED_NODES; i++) refused.note(`other ${i}`, node);
  expect(refused.all()).toHaveLength(REFUSED_NODES);
});

/** Returns the peers that the operator sees. */
function shown({ coordinator, store, clock }: World, others: readonly OtherVersion[] = []) {
  const network = { peers: () => [], otherVersions: () => others } as never;
  return new PeerViews({ coordinator, store, clock, network }).peers();
}

const byClock = { level: 'yellow', reason: expect.stringContaining('clock') };

test('the operator sees a node that cannot join because of its clock, until it joins', async () => {
  const world = await new World().start();
  const peer = new ScriptedPeer(1, world);
  world.wrongMs = -CLOCK_SKEW_MS - 30_000;
  await expect(peer.join()).rejects.toMatchObject({ values: { code: 'CLOCK_OFF' } });
  await expect(peer.join()).rejects.toMatchObject({ values: { code: 'CLOCK_OFF' } });
  const hold = { reason: 'clock', detail: expect.stringMatching(/1 min 30 s ahead/) };
  const seen = { peer: peer.id, name: 'p', job: world.toy.job, state: 'joining', hold, health: byClock };
  expect(shown(world)).toMatchObject([seen]);
  expect(waitingNodes(world.run, [])).toEqual([{ reason: 'clock', nodes: 1 }]);
  const held = world.store.events.after(world.toy.job, 0, 100).filter(({ type }) => type === 'peer-held');
  expect(held).toMatchObject([{ peer: peer.id, name: 'p', ...hold }]);
  world.wrongMs = 0;
  await peer.join();
  expect(shown(world)).toMatchObject([{ peer: peer.id, hold: null }]);
  expect(waitingNodes(world.run, [])).toEqual([]);
  await peer.heartbeat('awaiting', { hold: { reason: 'disk', detail: '' } });
  const others = [{ peer: 'stranger', agent: '' }];
  expect(waitingNodes(world.run, others)).toEqual([
    { reason: 'version', nodes: 1 },
    { reason: 'disk', nodes: 1 },
  ]);
});

test('the operator does not see a node with a wrong clock that may not join anyway', async () => {
  const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
  const peer = new ScriptedPeer(1, world);
  world.wrongMs = CLOCK_SKEW_MS + 30_000;
  await expect(peer.join('wrong')).rejects.toMatchObject({ values: { code: 'NOT_ADMITTED' } });
  expect(shown(world)).toEqual([]);
  await expect(peer.join('secret')).rejects.toMatchObject({ values: { code: 'CLOCK_OFF' } });
  expect(shown(world)).toHaveLength(1);
});

test('a member whose clock was set is shown as waiting, and not as lost without a reason', async () => {
  const world = new World({ rounds: { minPeers: 1, count: 2, maxSeconds: 60 } });
  const { peers } = await training(world, 1);
  const [peer] = peers as [ScriptedPeer];
  for (let ms = 0; ms <= PEER_LOST_AFTER_MS; ms += 5_000) {
    await peer.heartbeat('training', { issuedAt: world.clock.now() + CLOCK_SKEW_MS + 10_000 });
    await world.pass(5_000);
  }
  const hold = { reason: 'clock', detail: expect.stringMatching(/1 min 10 s ahead/) };
  expect(shown(world)).toMatchObject([{ peer: peer.id, state: 'lost', hold, health: byClock }]);
  await peer.heartbeat('awaiting');
  expect(shown(world)).toMatchObject([{ peer: peer.id, hold: null }]);
});

test('the operator sees nodes of other versions, members of a job or not', async () => {
  const world = await new World().start();
  const member = new ScriptedPeer(1, world);
  await member.join();
  await world.pass(2 * PEER_LOST_AFTER_MS);
  const others = [
    { peer: member.id, agent: 'lora-swarm/0.1.0' },
    { peer: 'stranger', agent: 'lora-swarm/9.0.0' },
    { peer: 'silent', agent: '' },
  ];
  const health = { level: 'yellow', reason: expect.stringContaining('versions') };
  const held = (detail: string) => ({ hold: { reason: 'version', detail }, health });
  expect(shown(world, others)).toMatchObject([
    { peer: member.id, job: world.toy.job, ...held('it runs lora-swarm/0.1.0') },
    { peer: 'stranger', name: 'other version', job: '', jobName: '', ...held('it runs lora-swarm/9.0.0') },
    { peer: 'silent', job: '', ...held('') },
  ]);
});

test('a former member that cannot join again is shown with the reason, until it leaves again', async () => {
  const world = await new World().start();
  const peer = new ScriptedPeer(1, world);
  await peer.join();
  const leave = () => peer.ask('leave', { job: world.toy.job, reason: '' });
  await leave();
  expect(shown(world)).toMatchObject([{ state: 'left', hold: null, health: { level: 'grey' } }]);
  world.wrongMs = CLOCK_SKEW_MS + 30_000;
  await expect(peer.join()).rejects.toMatchObject({ values: { code: 'CLOCK_OFF' } });
  expect(shown(world)).toMatchObject([{ state: 'joining', hold: { reason: 'clock' }, health: byClock }]);
  expect(peerLines(shown(world)).join('\n')).toContain('no work (clock)');
  expect(presentLines(shown(world)).join('\n')).toContain('1 min 30 s');
  await leave();
  expect(shown(world)).toMatchObject([{ state: 'left', hold: null, health: { level: 'grey' } }]);
  const others = [{ peer: peer.id, agent: 'lora-swarm/9.0.0' }];
  expect(shown(world, others)).toMatchObject([{ state: 'joining', hold: { reason: 'version' } }]);
});
