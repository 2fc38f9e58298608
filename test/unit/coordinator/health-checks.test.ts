import { expect, test } from 'vitest';
import { addHealthChecks } from '../../../coordinator/health-checks.ts';
import { Health } from '../../../monitor/health.ts';
import { systemClock } from '../../../net/clock.ts';
import { training } from './scripted-peer.ts';
import { World } from './world.ts';

async function failing(world: World, kind: 'live' | 'ready'): Promise<string[]> {
  const health = new Health({}, { clock: systemClock });
  addHealthChecks(health, world);
  return (await health.report(kind)).failing.map(({ check }) => check);
}

test('a coordinator is well while its jobs turn and its store takes writes', async () => {
  const world = new World();
  await training(world, 2);
  expect(await failing(world, 'ready')).toEqual([]);
  world.store.close();
  expect(await failing(world, 'ready')).toContain('store');
  expect(await failing(world, 'live')).toEqual([]);
});

test('it is not live when a round has missed its time, and not ready when a job has paused itself', async () => {
  const world = new World({ rounds: { minPeers: 1, count: 1 } });
  const { peers, head } = await training(world, 1);
  world.leapMs = 3_600_000;
  expect(await failing(world, 'live')).toEqual(['rounds']);
  world.leapMs = 0;
  world.brokenEvaluations = 3;
  await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
  await world.until(() => world.run.state.phase === 'paused', 'the pause');
  expect(await failing(world, 'ready')).toEqual(['jobs']);
});
