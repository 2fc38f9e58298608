import { describe, expect, test } from 'vitest';
import { type FailpointName, failpoints } from '../../../coordinator/failpoints.ts';
import { REFUSALS_IN_A_ROW } from '../../../coordinator/round/job-phase.ts';
import type { Ending } from '../../../coordinator/round/state.ts';
import { verifyMessage } from '../../../protocol/signing.ts';
import { ScriptedPeer, training } from './scripted-peer.ts';
import { World } from './world.ts';

const ROUNDS = 2;

interface Outcome {
  /** Adapter and contributors of each checkpoint. The parents have been checked. */
  chain: { round: number; adapter: string; contributors: string[] }[];
  kills: number;
}

/** Runs a job with two nodes. The coordinator is killed when it passes the durable step `at` for the `nth` time. */
async function runJob(kill: { at: FailpointName; nth: number } | null): Promise<Outcome> {
  // One step per node: more steps would depend on measured speeds, which a kill changes.
  const world = new World({ rounds: { count: ROUNDS, minPeers: 2, localSteps: 1 } });
  let passed = 0;
  let kills = 0;
  world.failpoint = (name) => {
    if (name !== kill?.at || ++passed !== kill.nth) return;
    kills++;
    world.clock.after(1_500, () => void world.start());
    world.kill();
  };
  await world.start();
  const finished = (): boolean => world.alive && world.run?.driver.state.phase === 'finished';
  for (const number of [1, 2]) {
    const peer = new ScriptedPeer(number, world);
    await peer.work((round) => 0.01 * (number + round), finished);
  }
  await world.until(finished, 'the end of the job');
  await world.pass(100);

  const { job } = world.toy;
  const stored = world.store.rounds.checkpoints(job);
  let parent: string | null = null;
  const merged = new Map<string, number>();
  const chain = stored.map(({ round, digest, envelope }) => {
    const { message } = verifyMessage('checkpoint', envelope);
    expect(message.parent, `parent of checkpoint ${round}`).toBe(parent);
    parent = digest;
    expect(world.disk.files.has(message.adapter.digest), `adapter of checkpoint ${round}`).toBe(true);
    for (const { peer, round: made } of message.contributors) {
      const key = `${peer} in round ${made}`;
      merged.set(key, (merged.get(key) ?? 0) + 1);
    }
    return {
      round,
      adapter: message.adapter.digest,
      contributors: message.contributors.map(({ update }) => update),
    };
  });
  for (const [key, times] of merged) expect(times, `${key} is merged`).toBe(1);
  for (const update of world.store.updates.ofRounds(job, 0, 100)) {
    expect(update.fate, `fate of ${update.peer} in round ${update.round}`).toBe('merged');
  }
  const head = verifyMessage('head', world.store.jobs.head(job)!).message;
  expect(head).toMatchObject({
    phase: 'finished',
    term: 1,
    checkpoint: { digest: parent, ordinal: stored.length - 1 },
  });
  return { chain, kills };
}

describe('a coordinator that is killed', async () => {
  const control = await runJob(null);

  test('(control: without a kill)', () => {
    expect(control.chain.map(({ round, contributors }) => [round, contributors.length])).toEqual([
      [0, 0],
      [1, 2],
      [2, 2],
    ]);
  });

  for (const at of failpoints) {
    for (const nth of [1, 2, 3]) {
      test(`at "${at}", time ${nth}, ends with the same bytes`, async () => {
        const { chain, kills } = await runJob({ at, nth });
        // The job passes each step once in each of its two rounds.
        if (nth <= ROUNDS) expect(kills, 'it was killed').toBe(1);
        expect(chain).toEqual(control.chain);
      });
    }
  }
});

describe('a restarted coordinator', () => {
  test('keeps round, assignments and term, and continues the sequence of heads', async () => {
    const world = await new World({ rounds: { minPeers: 2 } }).start();
    const peers = [1, 2].map((number) => new ScriptedPeer(number, world));
    for (const peer of peers) await peer.join();
    await world.until(() => world.run.driver.state.phase === 'training', 'the first round');
    const before = await peers[0]!.head();
    const envelope = peers[0]!.seal(peers[0]!.update(before));
    expect((await peers[0]!.submit(envelope)).code).toBe('accepted');
    expect(() => world.kill()).toThrow();
    await world.pass(60_000);
    await world.start();
    expect(world.run.driver.state.phase).toBe('collecting');
    expect(world.run.driver.state.current?.delivered).toEqual([peers[0]!.id]);
    expect(await peers[0]!.head()).toEqual(before);
    // The coordinator was away for longer than the deadline. The other nodes still get time to deliver.
    expect((await peers[1]!.submit(peers[1]!.seal(peers[1]!.update(before)))).code).toBe('accepted');
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the first checkpoint');
    const after = await peers[0]!.head();
    expect(after.term).toBe(before.term);
    expect(after.sequence).toBe(before.sequence + 1);
    expect(after.checkpoint.delta?.parent).toBe(before.checkpoint.digest);
    // A node that missed its receipt sends the same update again and gets the same receipt.
    expect((await peers[0]!.submit(envelope)).code).toBe('accepted');
  });

  test('carries out a pause that was requested during a merge', async () => {
    const world = new World({ rounds: { minPeers: 1 } });
    world.failpoint = (name) => {
      if (name === 'merged') {
        world.run.operate({ type: 'pause', reason: 'lunch' });
        world.kill();
      }
    };
    await world.start();
    const peer = new ScriptedPeer(1, world);
    await peer.work(
      () => 0.01,
      () => world.alive && world.run?.driver.state.phase === 'paused',
    );
    await world.until(() => !world.alive, 'the kill');
    world.failpoint = () => {};
    await world.start();
    await world.until(() => world.run.driver.state.phase === 'paused', 'the pause');
    expect(world.run.driver.state.reason).toBe('lunch');
    expect(world.run.record.checkpoint.checkpoint.round).toBe(1);
  });

  test('counts all refusals since the last resume', async () => {
    const world = new World({
      rounds: { minPeers: 1, count: 1 },
      // Every change of the adapter makes the loss worse.
      losses: (adapter) => {
        const moved = adapter.some((tensor) => tensor.some((value) => value !== 0.5));
        return Array.from({ length: 4 }, () => ({ lossSum: moved ? 15 : 10, tokens: 10 }));
      },
    });
    await world.start();
    await new ScriptedPeer(1, world).work(
      () => 0.01,
      () => false,
    );
    const again = async (): Promise<void> => {
      expect(() => world.kill()).toThrow();
      await world.start();
    };
    await world.until(() => world.run.driver.state.phase === 'paused', 'the pause after five refusals');
    await again();
    expect(world.run.driver.state).toMatchObject({ phase: 'paused', refusals: REFUSALS_IN_A_ROW });
    world.run.operate({ type: 'resume' });
    await again();
    expect(world.run.driver.state.refusals).toBe(0);
    await world.until(() => world.run.driver.state.refusals === 2, 'two more');
    await again();
    expect(world.run.driver.state).toMatchObject({ refusals: 2 });
    expect(world.run.driver.state.phase).not.toBe('paused');
    await world.until(() => world.run.driver.state.phase === 'paused', 'the next pause');
    expect(world.run.driver.state.refusals).toBe(REFUSALS_IN_A_ROW);
  });

  test('counts the rounds that the gate refused', async () => {
    let worse = 0;
    const world = new World({
      rounds: { minPeers: 1, count: 1 },
      losses: (adapter) => {
        const moved = adapter.some((tensor) => tensor.some((value) => value !== 0.5));
        return Array.from({ length: 4 }, () => ({ lossSum: 10 + (moved ? worse : 0), tokens: 10 }));
      },
    });
    worse = 5;
    await world.start();
    const peer = new ScriptedPeer(1, world);
    const done = (): boolean => world.alive && world.run.driver.state.phase === 'finished';
    await peer.work(() => 0.01, done);
    await world.until(() => world.run.driver.state.refusals === 2, 'two refusals');
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(world.run.driver.state.refusals).toBe(2);
    expect(world.store.rounds.count(world.toy.job, 'refused')).toBe(2);
    worse = -1;
    await world.until(done, 'the end of the job');
    expect(world.run.driver.state.round).toBeGreaterThanOrEqual(3);
  });

  test('remembers the same last delivery and tally of a node whose second update was an outlier', async () => {
    const world = new World({ rounds: { minPeers: 3, count: 2 } });
    const { peers, head } = await training(world, 3);
    for (const peer of peers) await peer.submit(peer.seal(peer.update(head)));
    await world.until(() => world.run.driver.state.round === 2, 'the second round');
    const [outlier, ...others] = peers as [ScriptedPeer, ...ScriptedPeer[]];
    const next = await outlier.head();
    await outlier.submit(outlier.seal(outlier.update(next, {}, outlier.payload(50, next.preset))));
    for (const peer of others) await peer.submit(peer.seal(peer.update(next)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    const check = (): void => {
      expect(world.run.receipts.lastDelivery(outlier.id)).toBe(1);
      expect(world.run.receipts.tally(outlier.id)).toMatchObject({ accepted: 1, refused: 1 });
      expect(world.run.receipts.lastDelivery(others[0]!.id)).toBe(2);
      expect(world.run.receipts.tally(others[0]!.id)).toMatchObject({ accepted: 2, refused: 0 });
    };
    check();
    expect(() => world.kill()).toThrow();
    await world.start();
    check();
  });

  test('knows after a restart why a job is paused, also if an older version recorded no causes', async () => {
    const causes = async (world: World): Promise<unknown[]> => {
      const found: unknown[] = [world.run.driver.state.pauseCause];
      for (const isOld of [false, true]) {
        if (isOld) world.store.jobs.setPauseCause(world.toy.job, null);
        expect(() => world.kill()).toThrow();
        await world.start();
        found.push(world.run.driver.state.pauseCause);
      }
      return found;
    };
    const paused = new World({ rounds: { minPeers: 1 } });
    await training(paused, 1);
    paused.run.operate({ type: 'pause', reason: 'lunch' });
    expect(await causes(paused)).toEqual(['operator', 'operator', 'operator']);

    const broken = new World({ rounds: { minPeers: 1 } });
    const { peers, head } = await training(broken, 1);
    broken.brokenEvaluations = 3;
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await broken.until(() => broken.run.driver.state.phase === 'paused', 'the pause');
    expect(await causes(broken)).toEqual(['problem', 'problem', 'problem']);

    broken.store.jobs.setEnding(broken.toy.job, { phase: 'paused', reason: 'lunch' } as Ending);
    expect(() => broken.kill()).toThrow();
    await broken.start();
    expect(broken.run.driver.state.ending).toMatchObject({ cause: 'operator' });
  });

  test('gives the next round the same time after a pause that ended a round early', async () => {
    const world = new World({ rounds: { minPeers: 2, count: 5 } });
    const { peers, head } = await training(world, 2);
    await world.pass(5_000);
    for (const peer of peers) await peer.submit(peer.seal(peer.update(head)));
    await world.until(() => world.run.driver.state.round === 2, 'the second round');
    const { deadlineMs } = world.run.driver.state.current!;
    world.run.operate({ type: 'pause', reason: 'lunch' });
    const { shortRounds } = world.run.driver.state;
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(world.run.driver.state).toMatchObject({ phase: 'paused', round: 3, shortRounds });
    for (const peer of peers) await peer.join();
    world.run.operate({ type: 'resume' });
    await world.until(() => world.run.driver.state.phase === 'training', 'the third round');
    expect(world.run.driver.state.current?.deadlineMs).toBe(deadlineMs);
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(world.run.driver.state.shortRounds).toBe(0);
  });
});
