import { expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { addHealthChecks } from '../../../../coordinator/api/health-checks.ts';
import { Health } from '../../../../monitor/health.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

async function failing(world: World, kind: 'live' | 'ready'): Promise<string[]> {
  const health = new Health({ clock: systemClock });
  addHealthChecks(health, { coordinator: world.coordinator, store: world.store, checkDisk: async () => {} });
  return (await health.report(kind)).failing.map(({ check }) => check);
}

test('a coordinator is live and ready while its state machines run and its store accepts writes', async () => {
  const world = new World();
  await training(world, 2);
  expect(await failing(world, 'ready')).toEqual([]);
  world.store.close();
  expect(await failing(world, 'ready')).toContain('store');
  expect(await failing(world, 'live')).toEqual([]);
});

test('it is not live when a timer is late, and not ready when a job has paused itself', async () => {
  const world = new World({ rounds: { minPeers: 1, count: 1 } });
  const { peers, head } = await training(world, 1);
  world.stalledMs = 3_600_000;
  expect(await failing(world, 'live')).toEqual(['rounds']);
  world.stalledMs = 0;
  world.brokenEvaluations = 3;
  await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
  await world.until(() => world.run.driver.state.phase === 'paused', 'the pause');
  expect(await failing(world, 'ready')).toEqual(['jobs']);
  // After a restart, the job must still need its operator, because `lora-swarm job wait` ends on that.
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(await failing(world, 'ready')).toEqual(['jobs']);
});

test('it is not ready while a job is paused after refusals in a row, and ready while it is paused by the operator', async () => {
  const worse = (adapter: readonly Float32Array[]) => {
    const moved = adapter.some((tensor) => tensor.some((value) => value !== 0.5));
    return Array.from({ length: 4 }, () => ({ lossSum: moved ? 15 : 10, tokens: 10 }));
  };
  const world = new World({ rounds: { minPeers: 1, count: 1 }, losses: worse });
  await world.start();
  const isPaused = (): boolean => world.alive && world.run.driver.state.phase === 'paused';
  await new ScriptedPeer(1, world).work(() => 0.01, isPaused);
  await world.until(isPaused, 'the pause');
  expect(await failing(world, 'ready')).toEqual(['jobs']);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(await failing(world, 'ready')).toEqual(['jobs']);
  world.run.operate({ type: 'resume' });
  world.run.operate({ type: 'pause', reason: 'lunch' });
  expect(world.run.driver.state.phase).toBe('paused');
  expect(await failing(world, 'ready')).toEqual([]);
});
