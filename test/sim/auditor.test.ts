import { describe, expect, test } from 'vitest';
import { MIN_STEPS } from '../../coordinator/audits/verdict.ts';
import { AUDIT_SHARE } from '../../verify/scores/extra-work.ts';
import { type Behaviour, gradient, ToySwarm } from '../unit/coordinator/toy-swarm.ts';
import type { WorldOptions } from '../unit/coordinator/world.ts';

/** Trains as the peers of the toy swarm do: one step on all rows. */
const train: NonNullable<WorldOptions['train']> = (adapter, rows) => {
  const slope = gradient(adapter, rows);
  return adapter.map((tensor, t) => tensor.map((value, i) => value - 0.05 * slope[t]![i]!));
};
/** Returns gradients that are all zero, so that no score can find an attacker. */
const blind: NonNullable<WorldOptions['gradient']> = (adapter) =>
  adapter.map(({ length }) => new Float32Array(length));

const ROUNDS = 40;

async function played(behaviours: readonly Behaviour[], options: WorldOptions = {}): Promise<ToySwarm> {
  const swarm = new ToySwarm(behaviours, {
    train,
    gradient: blind,
    // The gate must pass every merge, even merges of harmful updates.
    losses: () => [{ lossSum: 8, tokens: 8 }],
    ...options,
    rounds: { count: ROUNDS, localSteps: MIN_STEPS, ...options.rounds },
  });
  // The pause before each delivery keeps the heartbeats of the peers within their quota.
  await swarm.play(await swarm.start(), ROUNDS, 2_000);
  return swarm;
}

function results({ world }: ToySwarm) {
  const { store, toy } = world;
  return ['passed', 'failed', 'dropped'].flatMap((state) => store.audits.inState(toy.job, state as 'passed'));
}

describe('audits', () => {
  test('honest updates pass, a flipped one fails, and no more than 2 % of the rows are trained again', async () => {
    const swarm = await played(['honest', 'honest', 'honest', 'flip']);
    const { store, toy } = swarm.world;
    const liar = swarm.peers[3]!.id;
    // An audit is dropped if it is chosen just before the end of the job.
    const ended = results(swarm).filter(({ state }) => state !== 'dropped');
    expect(ended.length).toBeGreaterThan(1);
    for (const { peer, state, closeness } of ended) {
      expect(state, `closeness ${closeness}`).toBe(peer === liar ? 'failed' : 'passed');
    }
    expect(ended.some(({ peer }) => peer === liar)).toBe(true);
    const { trained } = store.audits.newestDraw(toy.job)!;
    expect(store.audits.spent(toy.job)).toBeLessThanOrEqual(AUDIT_SHARE * trained);
    expect(swarm.world.audited.at(-1)!.share).toBeLessThanOrEqual(AUDIT_SHARE);

    const events = store.events.after(toy.job, 0, 10_000);
    const failed = events.filter((event) => event.type === 'audited' && event.verdict === 'failed');
    expect(failed.every((event) => event.type === 'audited' && event.peer === liar)).toBe(true);
    // After the failed audit, the share of the audited update counts as 0.
    const { round, decidedRound } = ended.find(({ peer }) => peer === liar)!;
    const shares = store.scores.shares(toy.job, liar, { before: decidedRound! + 1, limit: ROUNDS });
    expect(shares).toEqual(shares.map(() => 0));
    expect(round).toBeLessThanOrEqual(decidedRound!);
  });

  test('nothing is audited if the operator does not want it', async () => {
    const swarm = await played(['honest', 'flip'], { audits: false });
    const { store, toy } = swarm.world;
    expect(store.audits.newestDraw(toy.job)).toBeNull();
    expect(results(swarm)).toEqual([]);
  });

  test('a failure of the device drops the audit, and says nothing about the node', async () => {
    const swarm = await played(['honest', 'honest', 'flip'], {
      train: () => {
        throw new Error('the device is lost');
      },
    });
    const { store, toy } = swarm.world;
    const ended = results(swarm);
    expect(ended.length).toBeGreaterThan(0);
    for (const { state, reason } of ended) {
      expect(state).toBe('dropped');
      expect(reason).toBe('the device is lost');
    }
    const events = store.events.after(toy.job, 0, 10_000).filter(({ type }) => type === 'audit-dropped');
    expect(events).toHaveLength(ended.length);
  });

  test('a restart repeats the audit, and both attempts count as work', async () => {
    let swarm: ToySwarm | null = null;
    let kills = 0;
    swarm = new ToySwarm(['honest', 'honest', 'honest'], {
      train: (adapter, rows, steps) => {
        const { world } = swarm!;
        if (kills++ > 0) return train(adapter, rows, steps);
        world.clock.after(1_500, () => void world.start());
        return world.kill();
      },
      gradient: blind,
      rounds: { count: ROUNDS, localSteps: MIN_STEPS },
    });
    const { world } = swarm;
    let head = await swarm.start();
    const { job } = world.toy;
    while (world.store.audits.inState(job, 'passed').length === 0) {
      await world.pass(2_000);
      await swarm.deliver(head).catch(() => {});
      await world.until(() => world.alive && world.run?.record.checkpoint.checkpoint.round >= head.round);
      for (const peer of swarm.peers) await peer.join();
      head = await swarm.peers[0]!.head();
    }
    expect(kills).toBeGreaterThan(1);
    const [audit] = world.store.audits.inState(job, 'passed');
    expect(audit!.attempts).toBe(2);
    expect(world.store.audits.spent(job)).toBe(2 * audit!.rows);
    expect(world.audited).toHaveLength(1);
    expect(world.audited[0]!.rows).toBe(2 * audit!.rows);
  });
});
