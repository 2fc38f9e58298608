import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { HOLD_ENDS } from '../../../../coordinator/peers/liveness.ts';
import { ADMITTED_PEERS, DESCRIPTIONS } from '../../../../coordinator/peers/membership.ts';
import { NEWCOMERS } from '../../../../coordinator/peers/newcomers.ts';
import { PRESENCES } from '../../../../coordinator/peers/presence.ts';
import { deadlineOf } from '../../../../coordinator/round/close.ts';
import { CLOCK_SKEW_MS, PEER_LOST_AFTER_MS } from '../../../../protocol/limits.ts';
import { addressOf, type VirtualHost } from '../../../utils/virtual/virtual-network.ts';
import { ScriptedPeer, strangers, training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

function secondsLeft({ run, clock }: World): number {
  return (deadlineOf(run.driver.state.current!) - clock.monotonic()) / 1000;
}

/**
 * Returns the code with which a promise is rejected. If a peer refused a request, this is the peer's code, which is in
 * the values.
 */
async function refusal(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  return isSwarmError(error, 'RPC_REFUSED') ? error.values.code : error;
}

/** Joins as a host. Returns the code of the refusal, or null. */
async function joinAs(host: VirtualHost, { toy, clock }: World, name = 's'): Promise<unknown> {
  const { signal } = new AbortController();
  await host.connect(addressOf(COORDINATOR.peerId), { signal });
  const about = { name, agent: 'a', engine: 'e', tokensPerSecond: 0, sentAt: clock.now() };
  return refusal(
    host.request(COORDINATOR.peerId, 'join', { job: toy.job, invite: null, ...about }, { signal }),
  );
}

describe('liveness', () => {
  test('a node that joins counts as ready only after it has fetched base and data', async () => {
    const world = await new World({ rounds: { minPeers: 1 } }).start();
    const peer = new ScriptedPeer(1, world);
    const about = { name: 'p', agent: 'a', engine: 'e', tokensPerSecond: 0 };
    const asked = { job: peer.job, invite: null, ...about, sentAt: world.clock.now() };
    await peer.ask('join', asked);
    await peer.heartbeat('syncing');
    expect(Object.keys(world.run.driver.state.present)).toEqual([]);
    expect(world.run.members.liveness.size).toBe(1);
    await peer.heartbeat('awaiting');
    expect(Object.keys(world.run.driver.state.present)).toEqual([peer.id]);
    // Between rounds, the node syncs again and stays ready.
    await peer.heartbeat('syncing');
    expect(Object.keys(world.run.driver.state.present)).toEqual([peer.id]);
  });

  test('a node that takes no work is in no plan, and its reason is an event; then it is back', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const [held, other] = peers as [ScriptedPeer, ScriptedPeer];
    const hold = { reason: 'disk', detail: 'needs 2 GiB, may use 1 GiB' } as const;

    await held.heartbeat('training', { hold });
    await held.heartbeat('awaiting', { hold });
    const present = (): string[] => Object.keys(world.run.driver.state.present);
    expect(present()).toEqual([other.id]);
    // The open round does not wait for the held node, and does not count it among the nodes that left.
    expect(world.run.driver.state.current).toMatchObject({ held: [held.id], left: [] });
    const events = () =>
      world.store.events.after(world.toy.job, 0, 100).filter(({ type }) => type === 'peer-held');
    expect(events()).toMatchObject([{ peer: held.id, ...hold }]);
    await held.heartbeat('awaiting');
    expect(present().sort()).toEqual([held.id, other.id].sort());
    expect(events().at(-1)).toMatchObject({ peer: held.id, reason: null });
  });

  test('a node is recorded as joined when it is ready, or together with the reason why it takes no work', async () => {
    const world = await new World().start();
    const [ready, held] = [new ScriptedPeer(1, world), new ScriptedPeer(2, world)];
    const ask = (peer: ScriptedPeer) =>
      peer.ask('join', {
        ...{ job: peer.job, invite: null, name: 'p', agent: 'a', engine: 'e', tokensPerSecond: 0 },
        sentAt: world.clock.now(),
      });
    const events = () =>
      world.store.events
        .after(world.toy.job, 0, 100)
        .filter(({ type }) => type === 'peer-joined' || type === 'peer-held');
    await ask(ready);
    await ask(held);
    await ready.heartbeat('joining');
    await held.heartbeat('joining');
    expect(world.run.members.liveness.size).toBe(2);
    expect(events()).toEqual([]);
    const hold = { reason: 'disk', detail: '' } as const;
    await held.heartbeat('joining', { hold });
    await ready.heartbeat('awaiting');
    expect(events()).toMatchObject([
      { type: 'peer-held', peer: held.id, ...hold, joined: true },
      { type: 'peer-joined', peer: ready.id },
    ]);
    await ready.heartbeat('awaiting', { hold });
    expect(events().at(-1)).toMatchObject({ type: 'peer-held', peer: ready.id });
    expect(events().at(-1)).not.toHaveProperty('joined');
  });

  test('the event about a node that goes away says that it had joined, if no earlier event does', async () => {
    const world = await new World().start();
    const [early, ready] = [new ScriptedPeer(1, world), new ScriptedPeer(2, world)];
    for (const peer of [early, ready]) {
      await peer.ask('join', {
        ...{ job: peer.job, invite: null, name: 'p', agent: 'a', engine: 'e', tokensPerSecond: 0 },
        sentAt: world.clock.now(),
      });
      await peer.heartbeat('joining');
    }
    await ready.heartbeat('awaiting');
    for (const peer of [early, ready]) await peer.heartbeat('leaving');
    const events = world.store.events.after(world.toy.job, 0, 100);
    const of = (peer: ScriptedPeer) =>
      events.flatMap((event) =>
        'peer' in event && event.peer === peer.id ? [[event.type, 'joined' in event]] : [],
      );
    expect(of(early)).toEqual([['peer-lost', true]]);
    expect(of(ready)).toEqual([
      ['peer-joined', false],
      ['peer-lost', false],
    ]);
  });

  test('a node that takes and ends holds all the time keeps its hold until its quota has recovered', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const [flapping] = peers as [ScriptedPeer, ScriptedPeer];
    const hold = { reason: 'memory', detail: '' } as const;
    const isPresent = (): boolean => flapping.id in world.run.driver.state.present;
    for (let end = 0; end < HOLD_ENDS.calls; end++) {
      await flapping.heartbeat('awaiting', { hold });
      await flapping.heartbeat('awaiting');
      expect(isPresent()).toBe(true);
      await world.pass(1_000);
    }
    await flapping.heartbeat('awaiting', { hold });
    await flapping.heartbeat('awaiting');
    expect(isPresent()).toBe(false);
    expect(world.run.members.liveness.get(flapping.id)?.hold).toEqual(hold);
    for (let waited = 0; waited < HOLD_ENDS.perMs / HOLD_ENDS.calls; waited += 2_000) {
      await world.pass(2_000);
      await flapping.heartbeat('awaiting');
    }
    expect(isPresent()).toBe(true);
  });

  test('a new round is progress of a node, but not while its trainer works for another job', async () => {
    const world = new World({ rounds: { minPeers: 1 } });
    const { peers } = await training(world, 1);
    const [peer] = peers as [ScriptedPeer];
    const progressAfter = async (state: 'busy' | 'training', round: number): Promise<boolean> => {
      const before = world.run.members.liveness.get(peer.id)!.progressAt;
      await world.pass(2_000);
      await peer.heartbeat(state, { round });
      return world.run.members.liveness.get(peer.id)!.progressAt > before;
    };
    expect(await progressAfter('busy', 1)).toBe(true);
    expect(await progressAfter('busy', 2)).toBe(false);
    expect(await progressAfter('training', 2)).toBe(true);
    expect(await progressAfter('training', 3)).toBe(true);
  });

  test('a silent node is lost, and is present again after a heartbeat', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    await world.pass(PEER_LOST_AFTER_MS + 4_000);
    expect(world.run.members.liveness.size).toBe(0);
    const events = world.store.events.after(world.toy.job, 0, 100).filter(({ type }) => type === 'peer-lost');
    expect(events).toHaveLength(2);
    expect(events[0]).toMatchObject({ reason: 'silent' });
    await peers[0]!.heartbeat('training');
    expect(Object.keys(world.run.driver.state.present)).toEqual([peers[0]!.id]);
    expect(world.store.events.after(world.toy.job, 0, 100).at(-1)).toMatchObject({
      type: 'peer-joined',
      peer: peers[0]!.id,
    });
  });

  test('a node that says goodbye is absent at once', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    await peers[0]!.ask('leave', { job: world.toy.job, reason: '' });
    await peers[1]!.heartbeat('leaving');
    expect(world.run.members.liveness.size).toBe(0);
    expect(world.run.driver.state).toMatchObject({ phase: 'waiting', round: 2 });
    // The goodbye is kept over a restart, until the node joins again.
    const goodbyes = (): boolean[] => peers.map(({ id }) => world.run.members.list.get(id)!.saidGoodbye);
    expect(goodbyes()).toEqual([true, true]);
    // A node that left must join again. Its heartbeats alone write nothing to the store.
    const before = world.store.events.after(world.toy.job, 0, 100).length;
    await peers[0]!.heartbeat('awaiting');
    await peers[0]!.heartbeat('leaving');
    expect(world.run.members.liveness.size).toBe(0);
    expect(world.store.events.after(world.toy.job, 0, 100)).toHaveLength(before);
    await world.settle(world.coordinator.stop());
    await world.start();
    expect(goodbyes()).toEqual([true, true]);
    await peers[0]!.join();
    expect(goodbyes()).toEqual([false, true]);
    await world.pass(PEER_LOST_AFTER_MS + 4_000);
    expect(goodbyes()).toEqual([false, true]);
    expect(world.run.members.liveness.size).toBe(0);
  });

  test('remembers over a restart when each node was last seen', async () => {
    const world = new World();
    const { peers } = await training(world, 3);
    const [gone, there, killed] = peers as [ScriptedPeer, ScriptedPeer, ScriptedPeer];
    /** Returns the seconds from the start of the test to the last sign of life of a node. */
    const seenAt = ({ id }: ScriptedPeer): number => secondsTo(world.run.members.liveness.seenAt(id)!);
    const start = world.clock.now();
    const secondsTo = (at: number): number => Math.round((at - start) / 1000);
    const beat = (all: readonly ScriptedPeer[]) => Promise.all(all.map((peer) => peer.heartbeat('training')));
    await world.pass(60_000);
    await beat([gone]);
    const goneAt = secondsTo(world.clock.now());
    await world.pass(60_000);
    await beat([there, killed]);
    const thereAt = secondsTo(world.clock.now());
    expect(world.run.members.liveness.get(gone.id)).toBeNull();
    await world.settle(world.coordinator.stop());
    await world.pass(3_600_000);
    await world.start();
    expect([gone, there, killed].map(seenAt)).toEqual([goneAt, thereAt, thereAt]);
    await world.pass(PEER_LOST_AFTER_MS + 4_000);
    expect([gone, there].map(seenAt), 'after the wait for the expected nodes').toEqual([goneAt, thereAt]);

    await killed.join();
    await beat([killed]);
    const joinedAt = secondsTo(world.clock.now());
    expect(() => world.kill()).toThrow();
    await world.pass(3_600_000);
    await world.start();
    expect([gone, there].map(seenAt)).toEqual([goneAt, thereAt]);
    expect(seenAt(killed)).toBe(joinedAt);
  });

  test('heartbeats of strangers, of other jobs, from the past and from wrong clocks are ignored', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const stranger = new ScriptedPeer(9, world);
    await stranger.heartbeat('awaiting');
    expect(world.run.members.liveness.get(stranger.id)).toBeNull();
    const seenAt = world.run.members.liveness.get(peers[0]!.id)!.seenAt;
    const now = world.clock.now();
    await peers[0]!.heartbeat('training', { job: 'ab'.repeat(32) });
    await peers[0]!.heartbeat('training', { issuedAt: now - 60_000 });
    await peers[0]!.heartbeat('training', { issuedAt: now + CLOCK_SKEW_MS + 10_000 });
    expect(world.run.members.liveness.get(peers[0]!.id)!.seenAt).toBe(seenAt);
    expect(world.network.rejected).toEqual([]);
  });
});

test('the event about a lost node says that its clock was wrong', async () => {
  const world = new World({ rounds: { minPeers: 1, count: 2, maxSeconds: 60 } });
  const { peers } = await training(world, 2);
  const [wrong, silent] = peers as [ScriptedPeer, ScriptedPeer];
  for (let ms = 0; ms <= PEER_LOST_AFTER_MS; ms += 5_000) {
    await wrong.heartbeat('training', { issuedAt: world.clock.now() + CLOCK_SKEW_MS + 10_000 });
    await world.pass(5_000);
  }
  const lost = world.store.events.after(world.toy.job, 0, 100).filter(({ type }) => type === 'peer-lost');
  expect(lost).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ peer: wrong.id, reason: 'clock' }),
      expect.objectContaining({ peer: silent.id, reason: 'silent' }),
    ]),
  );
});

describe('a clock set by an hour', () => {
  const HOUR_MS = 3_600_000;

  test('back during a round: silent nodes are lost, others stay present, and the round ends', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 2, maxSeconds: 20 } });
    const { peers, head } = await training(world, 2);
    const [here, gone] = peers as [ScriptedPeer, ScriptedPeer];
    world.wrongMs = -HOUR_MS;
    // The clocks of the nodes are set back too, as if their machines had the same time server.
    const beat = () => here.heartbeat('training', { issuedAt: world.clock.now() - HOUR_MS });
    for (let i = 0; i < 8; i++) {
      await world.pass(2_000);
      await beat();
    }
    expect(world.run.members.liveness.get(gone.id)).toBeNull();
    expect(world.run.members.liveness.get(here.id)).not.toBeNull();
    expect((await here.submit(here.seal(here.update(head)))).code).toBe('accepted');
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
    expect(world.run.record.checkpoint.checkpoint.metrics.seconds).toBe(0);
    // The next round has its normal length again.
    await beat();
    const next = await here.head();
    expect(next.deadlineMs).toBeLessThanOrEqual(20_000);
  });

  test('back while the coordinator is away: the round continues and ends', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 1, maxSeconds: 20 } });
    await training(world, 2);
    expect(() => world.kill()).toThrow();
    world.wrongMs = -HOUR_MS;
    await world.start();
    expect(secondsLeft(world)).toBeLessThanOrEqual(20);
    await world.until(
      () => world.store.rounds.count(world.toy.job, 'short') === 1,
      'the end of a round without updates',
    );
  });

  test('forward: a stop keeps the recorded times of nodes that had left before', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const [left, there] = peers as [ScriptedPeer, ScriptedPeer];
    const stored = ({ id }: ScriptedPeer) =>
      world.store.peers.all(world.toy.job).find(({ peer }) => peer === id)!.seenAt;
    await left.ask('leave', { job: left.job, reason: '' });
    const leftAt = stored(left)!;
    expect(leftAt).not.toBeNull();
    world.wrongMs = HOUR_MS;
    const stoppedAt = world.clock.now() + HOUR_MS;
    await world.settle(world.coordinator.stop());
    await world.start();
    expect(stored(left)).toBe(leftAt);
    expect(stored(there)).toBeGreaterThan(stoppedAt - PEER_LOST_AFTER_MS);
  });

  test('back at the start and then set right, does not change the times of nodes that had left before', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const [left, there] = peers as [ScriptedPeer, ScriptedPeer];
    await left.ask('leave', { job: left.job, reason: '' });
    await world.pass(60_000);
    await there.heartbeat('training');
    const seenAt = () => [left, there].map(({ id }) => world.run.members.liveness.seenAt(id)!);
    const before = seenAt();
    await world.settle(world.coordinator.stop());
    world.wrongMs = -HOUR_MS;
    await world.start();
    const now = world.clock.now() - HOUR_MS;
    expect(Math.max(...seenAt())).toBeLessThanOrEqual(now);
    world.wrongMs = 0;
    expect(seenAt()).toEqual(before);
  });

  test('forward: no node is lost and no round is cut short', async () => {
    const world = new World({ rounds: { minPeers: 1, maxSeconds: 60 } });
    const { peers } = await training(world, 2);
    world.wrongMs = HOUR_MS;
    await world.pass(4_000);
    expect(world.run.members.liveness.size).toBe(peers.length);
    expect(world.run.driver.state).toMatchObject({ phase: 'training', round: 1 });
    expect(secondsLeft(world)).toBeGreaterThan(50);
  });

  test('a node with a wrong clock is refused when it joins', async () => {
    const world = await new World().start();
    const peer = new ScriptedPeer(1, world);
    world.wrongMs = CLOCK_SKEW_MS - 1_000;
    await peer.join();
    world.wrongMs = CLOCK_SKEW_MS + 1_000;
    expect(await refusal(peer.join())).toBe('CLOCK_OFF');
    world.wrongMs = -CLOCK_SKEW_MS - 1_000;
    expect(await refusal(peer.join())).toBe('CLOCK_OFF');
  });
});

describe('admission', () => {
  test('by invite needs the token', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const [with_, without] = [new ScriptedPeer(1, world), new ScriptedPeer(2, world)];
    expect(await refusal(without.join())).toBe('NOT_ADMITTED');
    expect(await refusal(without.join('Secret'))).toBe('NOT_ADMITTED');
    await with_.join('secret');
    // A member needs no token to join again.
    await with_.join();
    expect(world.run.members.list.all()).toHaveLength(1);
  });

  test('by list needs a listed peer id', async () => {
    const [listed, other] = [1, 2];
    const probe = new World();
    const id = new ScriptedPeer(listed, probe).id;
    const world = await new World({ admission: { kind: 'peers', peers: [id] } }).start();
    await new ScriptedPeer(listed, world).join();
    expect(await refusal(new ScriptedPeer(other, world).join())).toBe('NOT_ADMITTED');
  });

  test('is for jobs of this coordinator', async () => {
    const world = await new World().start();
    const peer = new ScriptedPeer(1, world);
    expect(await refusal(peer.ask('head', { job: 'ab'.repeat(32) }))).toBe('JOB_UNKNOWN');
  });

  test('of more newcomers than the limit makes them wait, and delays no member', async () => {
    const world = await new World().start();
    const known = new ScriptedPeer(1, world);
    await known.join();
    const hosts = strangers(world, NEWCOMERS.calls + 50);
    const before = world.clock.now();
    const joined = Promise.all(hosts.map((host) => joinAs(host, world)));
    await world.pass(10);
    await known.join();
    expect(await world.settle(joined)).toEqual(hosts.map(() => null));
    expect(world.clock.now() - before).toBeGreaterThanOrEqual((50 * NEWCOMERS.perMs) / NEWCOMERS.calls - 25);
  });

  test.each([1, 16])(
    'of a flood of newcomers from %d addresses: all honest nodes of another address join',
    async (addresses) => {
      const world = await new World().start();
      const all = strangers(world, NEWCOMERS.calls + 1_012);
      const flood = all.slice(0, -12);
      for (const [i, host] of flood.entries()) host.address = `10.0.0.${i % addresses}`;
      const refused = Promise.all(flood.map((host) => joinAs(host, world)));
      await world.pass(10);
      const honest = all.slice(-12);
      for (const host of honest) host.address = '10.1.0.1';
      expect(await world.settle(Promise.all(honest.map((host) => joinAs(host, world))))).toEqual(
        honest.map(() => null),
      );
      // The flood itself is larger than what the quota admits while a newcomer waits, so some of it is refused.
      expect(new Set(await world.settle(refused))).toEqual(new Set([null, 'BUSY']));
      expect(world.joins.BUSY).toBeGreaterThan(300);
    },
  );

  test.each([1, 16])(
    'of newcomers does not suffer from members on %d addresses that change their names all the time, which leaves few writes',
    async (addresses) => {
      const world = await new World().start();
      const { job } = world.toy;
      const all = strangers(world, 72);
      const [changing, honest] = [all.slice(0, 60), all.slice(60)];
      for (const [i, host] of changing.entries()) host.address = `10.0.0.${i % addresses}`;
      const written: string[] = [];
      const admit = world.store.peers.admit.bind(world.store.peers);
      world.store.peers.admit = (name, peer) => {
        written.push(peer.peer);
        admit(name, peer);
      };
      const codes: unknown[] = [];
      for (let second = 0; second < 60; second++) {
        const names = changing.map((host) => joinAs(host, world, `name ${second}`));
        if (second % 5 === 0) names.push(joinAs(honest[second / 5]!, world));
        codes.push(...(await world.settle(Promise.all(names))));
        await world.pass(1_000);
      }
      expect(codes.filter((code) => code !== null)).toEqual([]);
      expect(world.run.members.list.all()).toHaveLength(72);
      expect(written.length).toBeLessThanOrEqual(72 + 60 * (DESCRIPTIONS.calls + 1));
      expect(world.unrecorded.description).toBeGreaterThan(60 * 50);
      // There is one event for each of the 72 nodes that joined, and one more for each of the 12 honest nodes, because they
      // send no heartbeats here.
      expect(world.store.events.after(job, 0, 10_000).length).toBeLessThan(100);
    },
  );

  test('of members that come and go all the time records a bounded number of events', async () => {
    const world = await new World().start();
    const peer = new ScriptedPeer(1, world);
    for (let i = 0; i < 100; i++) {
      await peer.join();
      expect(world.run.members.liveness.size).toBe(1);
      await peer.ask('leave', { job: peer.job, reason: '' });
      expect(world.run.members.liveness.size).toBe(0);
    }
    expect(world.store.events.after(peer.job, 0, 1_000).length).toBeLessThan(PRESENCES.calls + 5);
    expect(world.unrecorded.presence).toBeGreaterThan(150);
    expect(world.run.members.list.get(peer.id)!.saidGoodbye).toBe(true);
    const leftAt = world.run.members.liveness.seenAt(peer.id)!;
    await world.settle(world.coordinator.stop());
    await world.start();
    expect(world.run.members.list.get(peer.id)).toMatchObject({ saidGoodbye: true, seenAt: leftAt });
  });

  test('refuses newcomers when all members are present', async () => {
    const world = await new World().start();
    const asked = { invite: null, name: '', agent: '', engine: '', sentAt: world.clock.now() };
    for (let i = 0; i < ADMITTED_PEERS; i++) world.run.members.join(`peer-${i}`, asked);
    expect(await refusal(new ScriptedPeer(1, world).join())).toBe('JOB_FULL');
  });
});
