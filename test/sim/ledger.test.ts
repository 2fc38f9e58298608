import { describe, expect, test } from 'vitest';
import { RECORDED_REFUSALS } from '../../coordinator/intake/update-recorder.ts';
import { MAX_SUSPENSIONS } from '../../coordinator/trust/standing.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { ScriptedPeer, training } from '../unit/coordinator/scripted-peer.ts';
import { World } from '../unit/coordinator/world.ts';
import { withCode } from '../utils/source/codes.ts';

const DELTA = 0.001;
const HONEST = 3;

/** A job in which lower values always lower the loss, so that an update with flipped signs is harmful. */
function world({ minPeers = 2 }: { minPeers?: number } = {}): World {
  return new World({
    rows: 512,
    rounds: { minPeers, count: 80, quorum: 1, preset: 'dense' },
    losses: () => [{ lossSum: 8, tokens: 8 }],
    gradient: (adapter) => adapter.map(({ length }) => new Float32Array(length).fill(1)),
  });
}

/** Starts a job with honest peers and one that flips the signs of its updates. */
async function attacked(started?: World) {
  const theWorld = started ?? (await world().start());
  const peers = Array.from({ length: HONEST + 1 }, (_, i) => new ScriptedPeer(i + 1, theWorld));
  for (const peer of peers) await peer.join();
  const attacker = peers[HONEST]!;
  const done = (): boolean => theWorld.run.driver.state.phase === 'finished';
  for (const peer of peers) void peer.work(() => (peer === attacker ? -DELTA : DELTA), done);
  return { world: theWorld, job: theWorld.toy.job, attacker, honest: peers.slice(0, HONEST) };
}

const untilRound = (theWorld: World, round: number): Promise<void> =>
  theWorld.until(() => theWorld.alive && theWorld.run.driver.state.round >= round, `round ${round}`);

/** Returns the rounds in which a peer had an assignment. */
const assigned = ({ store, toy }: World, peer: string): number[] =>
  store.rounds
    .newest(toy.job, 1000)
    .flatMap(({ round, assignments }) => (assignments.some((one) => one.peer === peer) ? [round] : []))
    .reverse();

const eventsOf = ({ store, toy }: World, ...types: JobEvent['type'][]): JobEvent[] =>
  store.events.after(toy.job, 0, 100_000).filter(({ type }) => types.includes(type));

describe('a peer that flips the signs of its updates', () => {
  test('gets the fewest steps after its second round, and no assignment after its third', async () => {
    const { world, job, attacker, honest } = await attacked();
    await untilRound(world, 9);
    expect(assigned(world, attacker.id)).toEqual([1, 2, 3, 8, 9]);
    const [third] = world.store.rounds.newest(job, 1000).filter(({ round }) => round === 3);
    const steps = third!.assignments.map((one) => [one.peer === attacker.id, one.steps]);
    expect(steps.filter(([isAttacker]) => isAttacker)).toEqual([[true, 2]]);
    expect(steps.filter(([isAttacker, count]) => !isAttacker && count !== 4)).toEqual([]);
    const told = eventsOf(world, 'struck', 'suspended').map(
      ({ sequence: _, at: __, job: ___, ...event }) => event,
    );
    const struck = { type: 'struck', peer: attacker.id, kind: 'harmful' };
    expect(told.slice(0, 4)).toEqual([
      { ...struck, round: 1, standing: 'good' },
      { ...struck, round: 2, standing: 'probation' },
      { ...struck, round: 3, standing: 'suspended' },
      { type: 'suspended', peer: attacker.id, round: 3, until: 7, suspensions: 1 },
    ]);
    for (const peer of honest) expect(assigned(world, peer.id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // The node learns its standing from its receipts, and when it joins again.
    const details = attacker.notified.filter(({ code }) => code === 'harmful').map(({ detail }) => detail);
    expect(details[0]).toMatch(/\bstrike 1\b.*\bgood$/);
    expect(details[2]).toMatch(/\bstrike 3\b.*\bsuspended\b.*\bround 7$/);
    const about = { invite: null, name: 'p', agent: 'test', engine: 'none', tokensPerSecond: 0 };
    const answer = await attacker.ask('join', { job, ...about, sentAt: world.clock.now() });
    expect(answer.standing).toMatchObject({ kind: 'probation', untilRound: 27 });
  });

  test('leaves evidence: the update, its figures and its receipt', async () => {
    const { world, job, attacker } = await attacked();
    await untilRound(world, 2);
    const who = world.run.ledger.standings.who(attacker.id);
    const [strike] = world.store.strikes.of(job, who);
    expect(strike).toMatchObject({ kind: 'harmful', round: 1, foundIn: 1, pardonedAt: null });
    expect(strike!.figures).toEqual({ effect: expect.any(Number), error: 0, gain: 0, share: 0, belief: 0 });
    expect(strike!.figures.effect).toBeLessThan(0);
    expect(world.store.updates.receipt(job, attacker.id, strike!.digest!)).toMatchObject({ code: 'harmful' });
  });

  test('is banned from the job for a week when it never stops, and told why', async () => {
    const { world, attacker, honest } = await attacked();
    await untilRound(world, 39);
    expect(assigned(world, attacker.id)).toEqual([1, 2, 3, 8, 9, 18, 19, 36, 37]);
    expect(world.run.members.list.has(attacker.id)).toBe(false);
    const [banned] = eventsOf(world, 'banned');
    expect(banned).toMatchObject({ peer: attacker.id, cause: 'strikes' });
    await expect(attacker.join()).rejects.toEqual(
      withCode('RPC_REFUSED', {
        code: 'BANNED',
        reason: expect.stringContaining(`${MAX_SUSPENSIONS} suspensions`),
      }),
    );
    await untilRound(world, 45);
    expect(assigned(world, attacker.id).at(-1)).toBe(37);
    // Eight days later, the ban has ended.
    world.wrongMs += 8 * 24 * 3600_000;
    expect(world.run.ledger.bans.isBanned(world.run.ledger.standings.who(attacker.id))).toBe(false);
    for (const peer of honest)
      expect(world.store.strikes.of(world.toy.job, { peer: peer.id, person: peer.id })).toEqual([]);
  });

  test('is treated the same if the coordinator is killed at any time', async () => {
    const { world, attacker } = await attacked();
    for (let round = 2; round <= 38; round += 3) {
      await untilRound(world, round);
      world.failpoint = (name) => {
        const points = ['scored', 'merged', 'checkpoint-recorded', 'update-recorded'] as const;
        if (name === points[round % points.length]) world.kill();
      };
      await world.until(() => !world.alive, 'the kill');
      world.failpoint = () => {};
      await world.start();
    }
    await untilRound(world, 45);
    // After a restart, a node may miss a round. Everything else is as in a run without restarts.
    const rounds = assigned(world, attacker.id);
    expect(rounds.slice(0, 7)).toEqual([1, 2, 3, 8, 9, 18, 19]);
    expect(rounds).toHaveLength(9);
    expect(eventsOf(world, 'struck').map((event) => 'round' in event && event.round)).toEqual(rounds);
    expect(world.run.members.list.has(attacker.id)).toBe(false);
  });
});

describe('a ban', () => {
  test('follows from two signed updates of a round, for good and in all jobs', async () => {
    const theWorld = world();
    const { peers, head } = await training(theWorld, 4);
    const [liar] = peers as [ScriptedPeer];
    const second = { ...theWorld.prepared() };
    await theWorld.settle(
      theWorld.coordinator.create({
        ...second,
        manifest: { ...second.manifest, name: 'other' },
        content: 'other',
      }),
    );
    for (const delta of [0.05, 0.01]) {
      await liar.submit(liar.seal(liar.update(head, {}, liar.payload(delta, head.preset))));
    }
    const refused = withCode('RPC_REFUSED', { code: 'BANNED', until: null });
    await expect(liar.join()).rejects.toEqual(refused);
    const [, other] = theWorld.coordinator.jobs();
    expect(() => other!.members.checkJoin(liar.id, joinRequest(theWorld))).toThrow(withCode('BANNED'));
    // The node got its receipts before its connection was closed.
    expect(liar.notified.map(({ code }) => code)).toEqual(['accepted', 'conflicting', 'conflicting']);
    await theWorld.pass(1_000);
    expect(theWorld.coordinator.jobs()[0]!.members.list.has(liar.id)).toBe(false);
    expect(eventsOf(theWorld, 'struck', 'banned')).toMatchObject([
      { type: 'struck', kind: 'conflicting', standing: 'banned' },
      { type: 'banned', cause: 'proof', until: null },
    ]);
  });

  test('by the operator closes the connection at once, has an end if the operator says so, and can be lifted', async () => {
    const theWorld = world();
    const { peers } = await training(theWorld, 4);
    const [one] = peers as [ScriptedPeer];
    const until = theWorld.clock.now() + 60_000;
    theWorld.coordinator.ban(one.id, { job: null, reason: 'testing', until });
    expect(theWorld.run.members.list.has(one.id)).toBe(false);
    await theWorld.pass(600);
    expect(one.host.peers()).toEqual([]);
    await expect(one.join()).rejects.toEqual(
      withCode('RPC_REFUSED', { code: 'BANNED', reason: 'testing', until }),
    );
    await theWorld.pass(60_000);
    await one.join();
    theWorld.coordinator.ban(one.id, { job: 'toy', reason: 'again', until: null });
    theWorld.coordinator.pardon(one.id, { job: null });
    await one.join();
    expect(eventsOf(theWorld, 'pardoned')).toMatchObject([{ peer: one.id, strikes: 0, bans: 1 }]);
  });

  test('of a peer that never joined keeps it out', async () => {
    const theWorld = world();
    await theWorld.start();
    const stranger = new ScriptedPeer(9, theWorld);
    theWorld.coordinator.ban(stranger.id, { job: null, reason: '', until: null });
    await expect(stranger.join()).rejects.toEqual(withCode('RPC_REFUSED', { code: 'BANNED' }));
    expect(theWorld.joins).toEqual({ BANNED: 1 });
  });
});

describe('payloads that do not decode', () => {
  const strikesOf = ({ store, toy }: World, { id }: ScriptedPeer) =>
    store.strikes.of(toy.job, { peer: id, person: id });
  const isOver = (theWorld: World) => (): boolean => theWorld.run.driver.state.round > 1;

  /**
   * Plays a round. The first `count` peers send payloads that do not decode, and the others send honest updates. Before
   * its update, each peer sends `spam` updates that are refused.
   */
  async function withBadPayloads(count: number, theWorld = world(), spam = 0) {
    const { peers, head } = await training(theWorld, 4);
    for (const [i, peer] of peers.entries()) {
      for (let n = 0; n < spam; n++) await peer.submit(peer.seal(peer.update(head, { term: 100 + n })));
      const update = peer.update(head, {}, i < count ? Buffer.from(`no payload ${i}`) : undefined);
      const { code } = await peer.submit(peer.seal(update));
      expect(code).toBe(i < count ? 'bad-payload' : 'accepted');
    }
    expect(peers.flatMap((peer) => strikesOf(theWorld, peer))).toEqual([]);
    await theWorld.until(isOver(theWorld), 'the end of the round');
    return { theWorld, peers, head };
  }

  test('are a strike at the end of the round, once', async () => {
    const { theWorld, peers, head } = await withBadPayloads(1);
    const [one, ...others] = peers as [ScriptedPeer, ...ScriptedPeer[]];
    expect(strikesOf(theWorld, one)).toMatchObject([{ kind: 'bad-payload', round: 1, figures: {} }]);
    await one.submit(one.seal(one.update(head, {}, Buffer.from('another one'))));
    for (const peer of others) {
      void peer.work(
        () => DELTA,
        () => theWorld.run.driver.state.round > 2,
      );
    }
    await untilRound(theWorld, 3);
    expect(strikesOf(theWorld, one)).toHaveLength(1);
  });

  test('are a strike although the author has used up its recorded refusals', async () => {
    const { theWorld, peers } = await withBadPayloads(1, world(), RECORDED_REFUSALS);
    expect(strikesOf(theWorld, peers[0]!)).toMatchObject([{ kind: 'bad-payload', round: 1 }]);
  });

  test('are a strike if the round ends without a merge, and after a restart', async () => {
    const theWorld = world({ minPeers: 4 });
    theWorld.failpoint = (name) => {
      if (name !== 'update-recorded') return;
      theWorld.failpoint = () => {};
      theWorld.clock.after(200, () => void theWorld.start());
      theWorld.clock.after(100, () => theWorld.kill());
    };
    const { peers } = await withBadPayloads(1, theWorld);
    expect(eventsOf(theWorld, 'null-round')).toHaveLength(1);
    expect(strikesOf(theWorld, peers[0]!)).toMatchObject([{ kind: 'bad-payload', round: 1 }]);
  });

  test('wait during a round that restores a checkpoint', async () => {
    const theWorld = world();
    const { peers, head } = await training(theWorld, 4);
    const [one, ...honest] = peers as [ScriptedPeer, ...ScriptedPeer[]];
    const { round } = head;
    await one.submit(one.seal(one.update(head, {}, Buffer.from('no payload'))));
    const { driver, ledger } = theWorld.run;
    // No update has been selected for a merge, as in a round that restores a checkpoint.
    driver.transact((outbox) => ledger.judge(round, [], outbox));
    expect(eventsOf(theWorld, 'shared-fault', 'struck')).toEqual([]);
    const delivered = honest.map((peer) => ({ peer: peer.id, round, digest: 'd'.repeat(64) }));
    driver.transact((outbox) => ledger.judgeUnmerged(round, delivered, outbox));
    expect(strikesOf(theWorld, one)).toMatchObject([{ kind: 'bad-payload' }]);
  });

  test('of most nodes strike no node, because the fault is shared', async () => {
    const { theWorld, peers } = await withBadPayloads(3);
    expect(peers.flatMap((peer) => strikesOf(theWorld, peer))).toEqual([]);
    expect(eventsOf(theWorld, 'shared-fault')).toMatchObject([{ round: 1, faulty: 3, updates: 4 }]);
  });
});

describe('strikes under a personal invite', () => {
  async function invited() {
    const theWorld = await world().start();
    const { token } = theWorld.run.members.invites.create({
      name: null,
      role: 'contributor',
      uses: 5,
      expiresAt: null,
    });
    await new ScriptedPeer(HONEST + 1, theWorld).join(token);
    return { ...(await attacked(theWorld)), token };
  }

  test('count for a new key too, and leaving does not clear them', async () => {
    const { world, attacker, token } = await invited();
    await untilRound(world, 5);
    await attacker.ask('leave', { job: attacker.job, reason: 'stopped' });
    const second = new ScriptedPeer(9, world);
    await second.join(token);
    expect(world.run.ledger.standings.who(second.id).person).toBe(
      world.run.ledger.standings.who(attacker.id).person,
    );
    await untilRound(world, 9);
    // The node waits for the end of the suspension.
    expect(assigned(world, second.id)[0]).toBe(8);
  });

  test('end in a ban of all keys', async () => {
    const { world, attacker, token } = await invited();
    const second = new ScriptedPeer(9, world);
    await second.join(token);
    void second.work(
      () => DELTA,
      () => false,
    );
    await untilRound(world, 40);
    for (const key of [attacker, second, new ScriptedPeer(10, world)]) {
      await expect(key.join(token)).rejects.toEqual(withCode('RPC_REFUSED', { code: 'BANNED' }));
    }
    const { ledger } = world.run;
    world.coordinator.pardon(second.id, { job: null });
    expect(ledger.standings.of(ledger.standings.who(attacker.id))).toMatchObject({ standing: 'good' });
    await attacker.join(token);
  });
});

test('a fault that most nodes share strikes no node', async () => {
  const theWorld = world();
  await theWorld.start();
  const peers = [1, 2, 3, 4].map((number) => new ScriptedPeer(number, theWorld));
  for (const peer of peers) await peer.join();
  for (const [i, peer] of peers.entries()) {
    void peer.work(
      (round) => (round >= 5 && i < 3 ? -DELTA : DELTA),
      () => theWorld.run.driver.state.round > 7,
    );
  }
  await untilRound(theWorld, 7);
  expect(eventsOf(theWorld, 'struck')).toEqual([]);
  expect(eventsOf(theWorld, 'shared-fault')[0]).toMatchObject({ round: 5, updates: 4 });
});

test('a job with too few other nodes goes on with suspended ones, until these are banned', async () => {
  const { world: theWorld, attacker } = await attacked(await world({ minPeers: HONEST + 1 }).start());
  await theWorld.until(
    () => theWorld.run.driver.state.phase === 'waiting' && eventsOf(theWorld, 'banned').length > 0,
  );
  expect(eventsOf(theWorld, 'suspended')[0]).toMatchObject({ peer: attacker.id, round: 3 });
  expect(assigned(theWorld, attacker.id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('if all present nodes are suspended, they all take part on probation', async () => {
  const theWorld = world();
  const { peers, head } = await training(theWorld, 3);
  const { driver, ledger } = theWorld.run;
  const strike = { kind: 'audit', digest: 'd'.repeat(64), figures: {} } as const;
  for (const { id } of peers)
    for (const round of [head.round, head.round + 1])
      driver.transact((outbox) => ledger.strike(id, { ...strike, round }, outbox));
  expect(peers.map(({ id }) => ledger.standings.of(ledger.standings.who(id)).standing)).toEqual(
    peers.map(() => 'suspended'),
  );
  const standings = Object.values(ledger.standings.applyTo(driver.state.present)).map(
    ({ standing }) => standing,
  );
  expect(standings).toEqual(peers.map(() => 'probation'));
});

function joinRequest({ clock }: World) {
  return { invite: null, name: 'p', agent: 'test', engine: 'none', sentAt: clock.now() };
}
