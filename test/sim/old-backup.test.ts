import { expect, test } from 'vitest';
import { decryptHead } from '../../protocol/access/job-key.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { signerOf } from '../utils/swarm/signers.ts';
import { MemoryBlobs, MemoryDisk } from '../utils/virtual/memory-blobs.ts';
import { addressOf } from '../utils/virtual/virtual-network.ts';
import { checkHistory, DEADLINE_MS, ROUNDS, type Swarm, swarm } from './backup-swarm.ts';
import { COORDINATOR } from './virtual-coordinator.ts';

test('a coordinator that is restored from an old backup goes on where its nodes are', async () => {
  const all = await swarm(1);
  const { coordinator, nodes, clock, job, newest, reach, pass, restoreBackup, events, end } = all;
  await reach(2);
  const lost = await restoreBackup(async () => {
    await reach(3);
    coordinator.change({ learningRate: 1e-4, count: ROUNDS + 1 });
    await reach(5);
    await pass(1_000);
  });
  expect(newest()).toBe(2);
  coordinator.start();
  const restoredAt = clock.now();
  const isBack = await clock.run(() => newest() >= lost, 60_000);
  expect(isBack, 'it catches up within a minute').toBe(true);
  expect(clock.now() - restoredAt).toBeLessThan(20_000);
  expect(events().find(({ type }) => type === 'caught-up')).toMatchObject({
    before: 2,
    round: lost,
    term: 2,
    checkpoints: lost - 2,
    missing: 0,
    roundsDone: lost,
    phase: 'waiting',
  });
  // The backup lacks this change of the settings. The coordinator got it back from the nodes, which had checked it.
  const [change] = coordinator.store.jobs.settings(job).map((bytes) => verifyMessage('settings', bytes));
  expect(change?.message).toMatchObject({ sequence: 1, term: 1, values: { learningRate: 1e-4 } });
  await end();
  const head = verifyMessage('head', coordinator.store.jobs.head(job)!).message;
  expect(head).toMatchObject({ phase: 'finished', term: 2, checkpoint: { ordinal: ROUNDS + 1 } });
  expect(head.settings?.record).toBe(change!.digest);
  for (const { envelope } of coordinator.store.rounds.checkpoints(job)) {
    const { round, settings } = verifyMessage('checkpoint', envelope).message;
    expect(settings, `round ${round}`).toBe(round < change!.message.fromRound ? undefined : change!.digest);
  }
  expect(nodes.every((node) => node.done)).toBe(true);
  checkHistory(all);
});

test.each([1, 2, 3])(
  'nodes report a later head to a coordinator that is slow to start (seed %i)',
  async (seed) => {
    const all = await swarm(seed);
    const { coordinator, clock, reach, pass, restoreBackup, events, end } = all;
    await reach(2);
    const lost = await restoreBackup(async () => {
      await reach(3);
      await pass(1_500);
    });
    // The nodes connect while the coordinator does not answer requests yet, so their first request to join fails.
    coordinator.start({ answersAfterMs: 3_000 });
    const restoredAt = clock.now();
    await end();
    const caughtUp = events().find(({ type }) => type === 'caught-up');
    expect(caughtUp).toMatchObject({ round: lost, term: 2, missing: 0 });
    expect(caughtUp!.at - restoredAt).toBeLessThan(8_000);
    checkHistory(all);
  },
);

test.each([1, 2, 3, 4])(
  'a backup of one round ago, made while a round was merged, starts no second history (seed %i)',
  async (seed) => {
    const all = await swarm(seed);
    const { coordinator, reach, inPhase, restoreBackup, events, end } = all;
    await reach(2);
    await inPhase('validating');
    const lost = await restoreBackup(3);
    coordinator.start();
    await end();
    expect(events().find(({ type }) => type === 'caught-up')).toMatchObject({
      before: 2,
      round: lost,
      term: 2,
    });
    checkHistory(all);
  },
);

test.each(['runs on', 'is killed'])(
  'a job that is stopped while it catches up ends with the restored checkpoints (the coordinator %s)',
  async (then) => {
    const all = await swarm(1);
    const { coordinator, clock, job, reach, restoreBackup, events, end } = all;
    await reach(2);
    const lost = await restoreBackup(5);
    coordinator.start();
    const run = () => coordinator.coordinator.find(job);
    expect(await clock.run(() => run().context.isBehind(), 60_000), 'the proof').toBe(true);
    run().operate({ type: 'stop', reason: 'a test' });
    expect(run().context.isStopping()).toBe(true);
    if (then === 'is killed') {
      coordinator.crash();
      coordinator.start();
      expect(run().context.isStopping()).toBe(true);
    }
    await end();
    expect(coordinator.store.jobs.stopOrders()).toEqual([]);
    expect(events().find(({ type }) => type === 'caught-up')).toMatchObject({
      round: lost,
      term: 2,
      missing: 0,
    });
    const head = verifyMessage('head', coordinator.store.jobs.head(job)!).message;
    expect(head).toMatchObject({
      phase: 'finished',
      term: 2,
      reason: 'a test',
      checkpoint: { ordinal: lost },
    });
    checkHistory(all);
  },
);

test('a job that was stopped while it was behind signs no head twice, although its nodes are away after a restart', async () => {
  const all = await swarm(1, { rounds: 60 });
  const { coordinator, clock, nodes, job, reach, pass, restoreBackup } = all;
  await reach(2);
  await restoreBackup(5);
  const seen = seenBy(all).heads;
  coordinator.start();
  const run = () => coordinator.coordinator.find(job);
  expect(await clock.run(() => run().context.isBehind(), 60_000), 'the proof').toBe(true);
  run().operate({ type: 'stop', reason: 'a test' });
  coordinator.crash();
  for (const node of nodes) node.crash();
  coordinator.start();
  expect(await clock.run(() => coordinator.finished, 150_000), 'it stops').toBe(true);
  const head = verifyMessage('head', coordinator.store.jobs.head(job)!).message;
  expect(head).toMatchObject({ term: 2, reason: 'a test', checkpoint: { ordinal: 2 } });
  for (const moment of seen.keys()) expect(Number(moment.split('/')[0])).toBe(1);
  for (const node of nodes) node.start();
  await pass(120_000);
  expect(coordinator.finished).toBe(true);
  expect(verifyMessage('head', coordinator.store.jobs.head(job)!).message.term).toBe(2);
});

/** What the nodes have seen of a coordinator's history when the coordinator is killed. */
function seenBy({ nodes, job }: Swarm) {
  const heads = new Map<string, string>();
  const checkpoints = new Map<string, string>();
  for (const { store } of nodes) {
    const kept = store.kept.recall(job, { after: 0, maxBytes: 1e9 });
    for (const bytes of kept.head === null ? [] : [kept.head]) {
      const { message, digest } = verifyMessage('head', bytes);
      heads.set(`${message.term}/${message.sequence}`, digest);
      checkpoints.set(`${message.term}/${message.checkpoint.round}`, message.checkpoint.digest);
    }
    for (const bytes of kept.checkpoints) {
      const { message, digest } = verifyMessage('checkpoint', bytes);
      checkpoints.set(`${message.term}/${message.round}`, digest);
    }
  }
  return { heads, checkpoints };
}

const WAITS_MS = [0, 20, 60, 100, 300, 1_000];
test.each(WAITS_MS.flatMap((waitMs) => [2, 4].map((seed) => [waitMs, seed] as const)))(
  'a coordinator that is killed %i ms after a checkpoint signs no second history (seed %i)',
  async (waitMs, seed) => {
    const all = await swarm(seed, { rounds: 5 });
    const { coordinator, network, clock, job, newest, reach, inPhase, pass, restoreBackup, events, end } =
      all;
    await reach(2);
    await inPhase('validating');
    const lost = await restoreBackup(async () => {
      await reach(3);
      await pass(waitMs);
    });
    const before = verifyMessage('head', coordinator.store.jobs.head(job)!).message.sequence;
    const seen = seenBy(all);
    const contradictions: string[] = [];
    network.onMessage = ({ from, kind, bytes }) => {
      if (from !== COORDINATOR.peerId || kind !== 'heads') return;
      const opened = decryptHead(bytes, job, coordinator.store.keys.find(job)!);
      const { message, digest } = verifyMessage('head', opened);
      const moment = `${message.term}/${message.sequence}`;
      if ((seen.heads.get(moment) ?? digest) !== digest) contradictions.push(`head ${moment}`);
    };
    coordinator.start();
    const restoredAt = clock.now();
    const isOn = () => newest() > lost;
    expect(await clock.run(isOn, 60_000), 'the next checkpoint').toBe(true);
    expect(clock.now() - restoredAt).toBeLessThan(20_000);
    await end();
    for (const { envelope, digest } of coordinator.store.rounds.checkpoints(job)) {
      const { term, round } = verifyMessage('checkpoint', envelope).message;
      const moment = `${term}/${round}`;
      if ((seen.checkpoints.get(moment) ?? digest) !== digest) contradictions.push(`checkpoint ${moment}`);
    }
    expect(contradictions).toEqual([]);
    const isKnown = [...seen.heads.keys()].some((moment) => Number(moment.split('/')[1]) > before);
    const caughtUp = events().find(({ type }) => type === 'caught-up');
    const { term } = verifyMessage('head', coordinator.store.jobs.head(job)!).message;
    expect(term).toBe(caughtUp ? 2 : 1);
    if (isKnown) expect(caughtUp).toMatchObject({ before: 2, term: 2 });
  },
);

test.each(['before the restart', 'after the restart'])(
  'a restored coordinator signs no head when it removes a banned node (ban %s)',
  async (when) => {
    const { coordinator, nodes, clock, job, reach, pass, restoreBackup, catchUp, events } = await swarm(6, {
      minPeers: 3,
    });
    const { peer } = nodes[2]!;
    await reach(2);
    // Two nodes have delivered in round 3, which now waits for the slowest node. Without the update of this node, the
    // round has too few updates.
    const { updates } = coordinator.store;
    const arrived = await clock.run(() => updates.ofRounds(job, 3, 3).length === 2, DEADLINE_MS);
    expect(arrived, 'two updates of round 3').toBe(true);
    const lost = await restoreBackup(3);
    const sequence = () => verifyMessage('head', coordinator.store.jobs.head(job)!).message.sequence;
    const before = sequence();
    if (when === 'before the restart') {
      // The coordinator was killed after it had recorded the ban, and before it removed the node.
      const ban = {
        peer,
        person: peer,
        job: null,
        cause: 'operator',
        reason: 'a test',
        until: null,
      } as const;
      coordinator.store.bans.insert({ ...ban, at: clock.now() });
    }
    coordinator.start();
    if (when === 'after the restart') coordinator.ban(peer);
    expect(coordinator.store.peers.all(job).map((member) => member.peer)).not.toContain(peer);
    await pass(1_500);
    expect(sequence()).toBe(before);
    await catchUp();
    expect(events().find(({ type }) => type === 'caught-up')).toMatchObject({
      before: 2,
      round: lost,
      term: 2,
    });
  },
);

test('a coordinator that starts again goes on soon after its nodes have connected, and later if none is left', async () => {
  const all = await swarm(5, { rounds: 60 });
  const { coordinator, nodes, clock, newest, reach, inPhase, pass } = all;
  await reach(2);
  coordinator.crash();
  await pass(1_000);
  coordinator.start();
  const before = newest();
  expect(await clock.run(() => newest() > before, 15_000), 'a checkpoint within 15 s').toBe(true);
  // The coordinator and all nodes are killed during a merge. Only the coordinator starts again.
  await inPhase('validating');
  const last = newest();
  coordinator.crash();
  for (const node of nodes) node.crash();
  coordinator.start();
  expect(await clock.run(() => newest() > last, 100_000), 'no merge before two minutes').toBe(false);
  expect(await clock.run(() => newest() > last, 30_000), 'the merge after two minutes').toBe(true);
});

test.each([
  { when: 'while the job runs', rounds: 60 },
  { when: 'when the job is over', rounds: ROUNDS },
])('a person who was banned after the backup stays out ($when)', async ({ rounds }) => {
  const { coordinator, nodes, clock, job, reach, pass, restoreBackup, catchUp } = await swarm(7, { rounds });
  await reach(2);
  const keyBefore = coordinator.store.keys.find(job)!;
  const banned = nodes[2]!;
  await restoreBackup(async () => {
    coordinator.ban(banned.peer);
    // The nodes get the new key, and with it the record of the ban.
    await pass(20_000);
    expect(coordinator.finished).toBe(rounds === ROUNDS);
  });
  expect(coordinator.store.bans.inForce(clock.now(), 10)).toEqual([]);
  coordinator.start();
  await catchUp();
  expect(coordinator.store.bans.inForce(clock.now(), 10)).toMatchObject([
    { peer: banned.peer, job: null, cause: 'operator', reason: 'a test' },
  ]);
  await pass(2_000);
  expect(coordinator.store.peers.all(job).map(({ peer }) => peer)).not.toContain(banned.peer);
  // The banned person knows the key of the backup, and must not be able to read later heads with it.
  const key = coordinator.store.keys.find(job)!;
  expect(key.id).toBeGreaterThan(keyBefore.id + 1);
  expect(key.key).not.toEqual(keyBefore.key);
});

test.each([
  { when: 'no removal after the restore', removalsAfter: 0 },
  { when: 'three removals after the restore', removalsAfter: 3 },
])(
  'a banned person who answers first is removed when an honest node comes ($when)',
  async ({ removalsAfter }) => {
    const all = await swarm(7, { rounds: 200, minPeers: 1 });
    const { coordinator, nodes, clock, job, reach, pass, restoreBackup, catchUp, events } = all;
    const banned = nodes[2]!;
    const honest = nodes.slice(0, 2);
    await reach(2);
    await restoreBackup(async () => {
      await reach(4);
      await pass(500);
      // The node of the banned person never gets the record of the ban.
      banned.crash();
      coordinator.ban(banned.peer);
      await pass(20_000);
    });
    for (const node of honest) node.crash();
    coordinator.start();
    banned.start();
    await catchUp();
    const bans = () => coordinator.store.bans.inForce(clock.now(), 10);
    const members = () => coordinator.store.peers.all(job).map(({ peer }) => peer);
    expect(bans()).toEqual([]);
    expect(members()).toContain(banned.peer);
    for (let i = 0; i < removalsAfter; i++) coordinator.ban(signerOf(80 + i).peerId);
    for (let i = 0; i < removalsAfter; i++) coordinator.invite();
    const keyBefore = coordinator.store.keys.find(job)!;
    for (const node of honest) node.start();
    const isOut = await clock.run(() => !members().includes(banned.peer), 30_000);
    expect(isOut, 'the banned person is removed').toBe(true);
    expect(bans().filter(({ peer }) => peer === banned.peer)).toMatchObject([{ cause: 'operator' }]);
    expect(coordinator.store.keys.find(job)!.id).toBeGreaterThan(keyBefore.id);
    await pass(20_000);
    const { id } = coordinator.store.keys.find(job)!;
    for (const node of honest) expect(node.store.kept.newestRemovals(job)).toBe(id - 1);
    // Both nodes return the record of the ban. The second copy adds nothing.
    expect(events().filter(({ type }) => type === 'banned')).toHaveLength(1);
    expect(events().filter(({ type }) => type === 'caught-up')).toHaveLength(1);
  },
);

test('nodes keep every checkpoint, also that of a roll-back to the adapter that they have', async () => {
  const { coordinator, nodes, clock, job, reach, pass } = await swarm(9);
  await reach(3);
  coordinator.rollBack('best');
  const rollBack = () => coordinator.store.rounds.rollBacks(job, 1)[0];
  expect(await clock.run(() => rollBack() !== null, DEADLINE_MS), 'the roll-back').toBe(true);
  await pass(500);
  expect(rollBack()!.restores).toBe(3);
  for (const { round, digest } of coordinator.store.rounds.checkpoints(job)) {
    const keepers = nodes.filter(({ store }) => store.kept.hasCheckpoint(job, digest));
    expect(keepers.length, `nodes with the checkpoint of round ${round}`).toBe(3);
  }
});

test('a node asks again for checkpoints that it has missed, at most three at each head', async () => {
  const { coordinator, nodes, node, job, reach, pass } = await swarm(9, { rounds: 40 });
  await reach(9);
  await pass(500);
  const newcomer = node(4);
  newcomer.start();
  const [first] = nodes;
  first!.database.exec('DELETE FROM kept_checkpoints WHERE round BETWEEN 3 AND 7');
  const kept = ({ store }: typeof newcomer) =>
    coordinator.store.rounds
      .checkpoints(job)
      .flatMap(({ round, digest }) => (store.kept.hasCheckpoint(job, digest) ? [round] : []));
  await reach(10);
  await pass(500);
  expect(kept(first!)).toEqual([0, 1, 2, 5, 6, 7, 8, 9, 10]);
  await reach(12);
  await pass(500);
  expect(kept(first!)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  // A newcomer has missed nothing.
  expect(Math.min(...kept(newcomer))).toBeGreaterThan(8);
});

test('nodes that are started again give the later head too', async () => {
  const all = await swarm(2);
  const { coordinator, nodes, reach, pass, restoreBackup, events, end } = all;
  await reach(1);
  await restoreBackup(4);
  for (const node of nodes) node.crash();
  coordinator.start();
  await pass(3_000);
  for (const node of nodes) node.start();
  await end();
  expect(events().filter(({ type }) => type === 'caught-up')).toHaveLength(1);
  checkHistory(all);
});

test('a coordinator that has worked with other nodes in the meantime drops this work', async () => {
  const all = await swarm(3);
  const { coordinator, nodes, reach, pass, restoreBackup, events, end } = all;
  await reach(1);
  await restoreBackup(7);
  nodes[0]!.crash();
  // The other nodes lose the heads and checkpoints that they kept.
  for (const node of nodes.slice(1)) {
    node.crash();
    node.database.exec('DELETE FROM kept_heads; DELETE FROM kept_checkpoints');
    node.start();
  }
  coordinator.start();
  await pass(4_000);
  nodes[0]!.start();
  await end();
  expect(events().filter(({ type }) => type === 'caught-up')).toHaveLength(1);
  checkHistory(all);
});

test('a stranger who claims later heads and gives no answer does not stop the restored coordinator', async () => {
  const all = await swarm(4, { rounds: 24 });
  const { coordinator, clock, network, random, job, newest, reach, pass, restoreBackup, events, end } = all;
  await reach(2);
  const lost = await restoreBackup(5);
  coordinator.start();
  const isAlive = () => true;
  const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive });
  const stranger = network.host({ signer: signerOf(77), blobs, isAlive });
  // The first recovery waits for this answer until it times out. The stranger's next claim is queued meanwhile.
  stranger.handle('recall', () => new Promise(() => {}));
  const { signal } = new AbortController();
  const known = { term: 1_000_000, sequence: 1 };
  let claims = 0;
  const claim = async (): Promise<void> => {
    await stranger.connect(addressOf(COORDINATOR.peerId), { signal });
    await stranger.request(COORDINATOR.peerId, 'head', { job, known }, { signal });
    claims++;
  };
  const keepClaiming = (): void => {
    void claim().finally(() => clock.after(500, keepClaiming));
  };
  keepClaiming();
  const isBack = await clock.run(() => newest() >= lost, 60_000);
  expect(isBack, 'it catches up within a minute').toBe(true);
  await pass(60_000);
  expect(claims).toBeGreaterThan(20);
  expect(events().filter(({ type }) => type === 'caught-up')).toHaveLength(1);
  await end();
  checkHistory(all);
});
