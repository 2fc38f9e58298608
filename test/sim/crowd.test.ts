import { expect, test } from 'vitest';
import { PRESENCES } from '../../coordinator/peers/presence.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { Crowd } from './crowd.ts';
import { SimulatedSwarm } from './simulated-swarm.ts';

const SEEDS = 8;

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`seed ${seed}: a swarm with faults finishes while strangers flood it, and records little of them`, async () => {
    const swarm = new SimulatedSwarm(seed, silentLogger);
    // The adversaries of the swarm are members too. The strangers of the crowd are not.
    const members = new Set(
      [...swarm.nodes, ...swarm.adversaries.map(({ node }) => node)].map(({ peer }) => peer),
    );
    const crowd = new Crowd(swarm);
    crowd.start();
    expect(await swarm.run(), `seed ${seed}`).toEqual([]);
    expect(crowd.sent).toBeGreaterThan(10_000);
    const { store } = swarm.coordinator;
    const events = store.events.after(swarm.toy.job, 0, 100_000);
    const theirs = events.filter((event) => 'peer' in event && !members.has(event.peer));
    // After each restart, the coordinator's limits count from zero again.
    const starts = 1 + swarm.counts.crashes;
    expect(theirs.length).toBeLessThanOrEqual(starts * 10 * (PRESENCES.calls + 2));
    expect(theirs.filter(({ type }) => type === 'update')).toEqual([]);
    expect(store.updates.receiptCounts(swarm.toy.job).filter(({ peer }) => !members.has(peer))).toEqual([]);
  });
}
