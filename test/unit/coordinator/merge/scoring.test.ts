import { describe, expect, test } from 'vitest';
import type { Row } from '../../../../lora/data/row.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import type { Head } from '../../../../protocol/messages.ts';
import { RANDOM_BATCHES } from '../../../../verify/scores/score-plan.ts';
import { toyLayout, toyRows } from '../../../utils/virtual/toy-job.ts';
import type { ScriptedPeer } from '../scripted-peer.ts';
import { gradient, ToySwarm } from '../toy-swarm.ts';
import type { WorldOptions } from '../world.ts';

/** With few parameters, or with rows that occur twice, scores are so noisy that a copy passes by chance. */
const QUIET = { layout: toyLayout(128), rows: 240 };

/** Exact effects need large intervals, whose rows must all be different. */
const LARGE = {
  layout: QUIET.layout,
  rows: toyRows(1280).map((row, i) => ({ ...row, ids: row.ids.map(() => i) })),
};

describe('scores of updates', () => {
  test('a sign flip and a copy get no weight, and honest nodes keep theirs', async () => {
    const behaviours = ['honest', 'honest', 'honest', 'honest', 'flip', 'copy'] as const;
    const swarm = new ToySwarm(behaviours, QUIET);
    const head = await swarm.start();
    await swarm.play(head, 3);
    for (const round of [1, 2, 3]) {
      const weights = swarm.weights(round);
      for (const weight of weights.slice(0, 4)) expect(weight, `round ${round}`).toBeGreaterThan(0);
      expect(weights[4], `round ${round}`).toBeNull();
      expect(weights[5], `round ${round}`).toBe(0);
    }
    const [first, , , , flip, copy] = swarm.scores(3);
    expect(first!.belief).toBeGreaterThan(0.6);
    expect(flip!).toMatchObject({ share: 0, belief: 0, isHarmful: true });
    expect(copy!).toMatchObject({ belief: 0, isHarmful: false });
    expect(swarm.world.scored).toContainEqual({ scored: 5, unscored: 0, harmful: 1, disbelieved: 1 });

    const { store, toy } = swarm.world;
    const receipt = store.updates.receipts(toy.job, swarm.peers[4]!.id, 1)[0]!;
    expect(receipt).toMatchObject({ round: 3, code: 'harmful' });
    expect(swarm.world.run.receipts.tally(swarm.peers[4]!.id)).toMatchObject({ accepted: 0, refused: 3 });
  });

  test('the loss after a whole update is measured while its author is doubtful, and takes its share', async () => {
    const behaviours = ['honest', 'honest', 'honest', 'honest'] as const;
    const shares = async (options: WorldOptions) => {
      const swarm = new ToySwarm(behaviours, {
        ...LARGE,
        rounds: { localSteps: 60, count: 1 },
        ...options,
      });
      await swarm.play(await swarm.start(), 1);
      return swarm.scores(1);
    };
    const plain = await shares({});
    // The first losses are measured at the parent. One update raises the loss only as a whole, which no gradient shows.
    let adapters = 0;
    const rowLosses = (_adapter: readonly Float32Array[], rows: readonly Row[]) => {
      adapters++;
      return rows.map(() => ({ lossSum: adapters === 3 ? 80 : 8, tokens: 8 }));
    };
    const exact = await shares({ rowLosses });
    expect(adapters).toBe(1 + behaviours.length);
    expect(exact.filter(({ figures }) => figures!.exact === -9)).toHaveLength(1);
    for (const [i, { figures, share }] of exact.entries()) {
      expect(plain[i]!.share).toBeGreaterThan(0);
      expect(plain[i]!.figures!.exact).toBe(0);
      expect(share).toBe(figures!.exact === -9 ? 0 : plain[i]!.share);
    }
  });

  test('the exact effect of an update that has no weight anyway is not measured', async () => {
    const behaviours = ['honest', 'honest', 'honest', 'flip', 'copy'] as const;
    const swarm = new ToySwarm(behaviours, { ...LARGE, rounds: { localSteps: 60, count: 1 } });
    await swarm.play(await swarm.start(), 1);
    const exact = swarm.scores(1).map(({ figures }) => figures!.exact);
    expect(exact).toEqual([0, 0, 0, null, null]);
  });

  test('new identities cannot move the median of nodes that are believed', async () => {
    const crowd = ['flip', 'flip', 'flip', 'flip', 'flip'] as const;
    const swarm = new ToySwarm(['honest', 'honest', 'honest', ...crowd], {
      ...QUIET,
      rounds: { minPeers: 3, count: 5 },
    });
    await swarm.play(await swarm.start(3), 3);
    await swarm.join();
    // The crowd gets work in the round after the next one.
    await swarm.play(await swarm.peers[0]!.head(), 5);
    const scores = swarm.scores(5);
    expect(scores).toHaveLength(8);
    for (const { share } of scores.slice(0, 3)) expect(share).toBeGreaterThan(0.4);
    for (const { share, isHarmful } of scores.slice(3))
      expect({ share, isHarmful }).toEqual({ share: 0, isHarmful: true });
  });

  test('an update for an older parent is not scored, and counts like one of a new node', async () => {
    const swarm = new ToySwarm(['honest', 'honest'], { rounds: { minPeers: 1, count: 3, quorum: 0.5 } });
    const head = await swarm.start();
    const [early, late] = swarm.peers as [ScriptedPeer, ScriptedPeer];
    await early.submit(early.seal(early.update(head)));
    await swarm.world.until(() => swarm.world.run.record.checkpoint.checkpoint.round === 1, 'checkpoint 1');
    expect((await late.submit(late.seal(late.update(head)))).code).toBe('late');
    const next = await early.head();
    await early.submit(early.seal(early.update(next)));
    await swarm.world.until(() => swarm.world.run.record.checkpoint.checkpoint.round === 2, 'checkpoint 2');
    const [, score] = swarm.scores(2);
    expect(score).toMatchObject({ round: 1, mergeRound: 2, figures: null, share: null, belief: 0.25 });
  });

  test('updates of three rounds that a node held back weigh no more than one of another node', async () => {
    const behaviours = ['honest', 'honest', 'honest', 'honest', 'honest'] as const;
    const swarm = new ToySwarm(behaviours, { rounds: { minPeers: 4, count: 3, quorum: 0.8 } });
    let head = await swarm.start();
    const { world, peers } = swarm;
    const kept: Head[] = [];
    for (const round of [1, 2]) {
      kept.push(head);
      await swarm.deliver(head, peers.slice(0, -1));
      await world.until(() => world.run.record.checkpoint.checkpoint.round === round, `checkpoint ${round}`);
      for (const peer of peers) await peer.heartbeat('awaiting');
      head = await peers[0]!.head();
    }
    for (const earlier of kept) await swarm.deliver(earlier, peers.slice(-1));
    await swarm.deliver(head);
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 3, 'checkpoint 3');
    const { contributors } = world.run.record.checkpoint.checkpoint;
    const weights = peers.map(({ id }) =>
      contributors.filter(({ peer }) => peer === id).map(({ weight }) => weight),
    );
    expect(weights.map(({ length }) => length)).toEqual([1, 1, 1, 1, 3]);
    const burst = weights.at(-1)!.reduce((sum, weight) => sum + weight, 0);
    expect(burst).toBeLessThanOrEqual(Math.max(...weights.slice(0, -1).flat()));
  });

  test('a late update that raises the loss is left out, and its share stays unknown', async () => {
    const swarm = new ToySwarm(['honest', 'honest', 'honest', 'flip'], {
      rounds: { minPeers: 3, count: 2, quorum: 0.75 },
    });
    const head = await swarm.start();
    const { world, peers } = swarm;
    await swarm.deliver(head, peers.slice(0, -1));
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'checkpoint 1');
    for (const peer of peers) await peer.heartbeat('awaiting');
    await swarm.deliver(head, peers.slice(-1));
    await swarm.deliver(await peers[0]!.head(), peers.slice(0, -1));
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 2, 'checkpoint 2');
    expect(swarm.scores(2)[3]).toMatchObject({ round: 1, figures: null, share: null, isHarmful: true });
    expect(swarm.weights(2)[3]).toBeNull();
  });

  test('an update that was not trained has no weight, however good its author was before', async () => {
    const behaviours = ['honest', 'honest', 'honest', 'turncoat'] as const;
    const swarm = new ToySwarm(behaviours, { ...QUIET, rounds: { count: 4 } });
    const head = await swarm.start();
    await swarm.play(head, 4);
    expect(swarm.weights(3)[3]).toBeGreaterThan(0);
    expect(swarm.scores(4)[3]!.belief).toBeGreaterThan(0.5);
    expect(swarm.weights(4)[3]).toBe(0);
    for (const weight of swarm.weights(4).slice(0, 3)) expect(weight).toBeGreaterThan(0);
  });

  test('a failure of the device leaves the belief of earlier rounds, and is recorded', async () => {
    let fails = false;
    const swarm = new ToySwarm(['honest', 'honest', 'flip'], {
      gradient: (adapter, rows) => {
        if (fails) throw new Error('the device is lost');
        return gradient(adapter, rows);
      },
    });
    const head = await swarm.start();
    await swarm.play(head, 1);
    fails = true;
    const { world } = swarm;
    await swarm.deliver(await swarm.peers[0]!.head());
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 2, 'checkpoint 2');
    expect(world.store.scores.ofMerge(world.toy.job, 2)).toEqual([]);
    const { contributors } = world.run.record.checkpoint.checkpoint;
    const beliefs = swarm.scores(1).map(({ belief }) => belief);
    expect(beliefs[2]).toBe(0);
    for (const [i, peer] of swarm.peers.entries()) {
      const { tokens, weight } = contributors.find((one) => one.peer === peer.id)!;
      expect(weight / tokens).toBe(beliefs[i]);
    }
    const events = world.store.events.after(world.toy.job, 0, 1000);
    const failures = events.filter(({ type }) => type === 'scoring-failed');
    expect(failures).toMatchObject([{ round: 2, reason: 'the device is lost' }]);
  });

  test('a coordinator that is too slow scores nothing for some rounds, and says so', async () => {
    let swarm: ToySwarm | null = null;
    let gradients = 0;
    swarm = new ToySwarm(['honest', 'honest', 'honest'], {
      gradient: (adapter, rows) => {
        gradients++;
        if (swarm) swarm.world.stalledMs += 60_000;
        return gradient(adapter, rows);
      },
    });
    const head = await swarm.start();
    await swarm.play(head, 2);
    const { store, toy } = swarm.world;
    const failures = store.events.after(toy.job, 0, 1000).filter(({ type }) => type === 'scoring-failed');
    expect(failures).toMatchObject([{ round: 1, reason: expect.stringMatching(/\b0 of 3\b.*threads/) }]);
    expect(gradients).toBe(RANDOM_BATCHES);
    expect(new Set(swarm.weights(2)).has(0)).toBe(false);
  });

  test('a kill between scoring and merging changes no weight', async () => {
    const weights = async (kill: boolean) => {
      const swarm = new ToySwarm(['honest', 'honest', 'flip', 'copy'], { rounds: { count: 1 } });
      const head = await swarm.start();
      const { world } = swarm;
      let kills = 0;
      world.failpoint = (name) => {
        if (!kill || name !== 'scored' || kills++ > 0) return;
        world.clock.after(1_500, () => void world.start());
        world.kill();
      };
      await swarm.deliver(head).catch(() => {});
      await world.until(
        () => world.alive && world.run?.record.checkpoint.checkpoint.round === 1,
        'the checkpoint',
      );
      expect(kills > 0).toBe(kill);
      const { adapter } = world.run.record.checkpoint.checkpoint;
      return { weights: swarm.weights(1), adapter: sha256(world.disk.files.get(adapter.digest)!) };
    };
    expect(await weights(true)).toEqual(await weights(false));
  });
});
