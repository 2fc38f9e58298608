import { describe, expect, test } from 'vitest';
import { type FailpointName, failpoints } from '../../coordinator/failpoints.ts';
import { ScriptedPeer } from '../unit/coordinator/scripted-peer.ts';
import { witnessed } from '../unit/coordinator/settings-witness.ts';
import { World } from '../unit/coordinator/world.ts';

/**
 * Runs a job whose settings change in round 1. The coordinator is killed right after the change, or when it passes the
 * step `at` for the second time.
 */
async function runJob(at: FailpointName | 'change' | null) {
  const world = new World({ rounds: { count: 2, minPeers: 1, localSteps: 1 } });
  const restart = (): never => {
    world.clock.after(1_500, () => void world.start());
    return world.kill();
  };
  let passed = 0;
  world.failpoint = (name) => {
    if (name === at && ++passed === 2) restart();
  };
  await world.start();
  const finished = (): boolean => world.alive && world.run?.driver.state.phase === 'finished';
  await new ScriptedPeer(1, world).work((round) => 0.01 * round, finished);
  await world.until(() => world.run.driver.state.phase === 'training', 'round 1');
  world.run.change({ learningRate: 1e-4, count: 3 }, { reason: 'the loss stalls' });
  if (at === 'change') expect(restart).toThrow();
  await world.until(finished, 'the end');
  const { changes, checkpoints } = witnessed(world);
  expect(changes).toMatchObject([{ record: { fromRound: 2, values: { learningRate: 1e-4, count: 3 } } }]);
  return checkpoints.map(({ round, adapter }) => ({ round, adapter }));
}

describe('a coordinator that is killed after a change of settings', async () => {
  const control = await runJob(null);

  test.each(['change', ...failpoints] as const)('at "%s" keeps it', async (at) => {
    expect(await runJob(at)).toEqual(control);
    expect(control).toHaveLength(4);
  });
});
