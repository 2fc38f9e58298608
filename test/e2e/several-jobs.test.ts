import { expect, test } from 'vitest';
import type { NodeStatus } from '../../protocol/api/node.ts';
import { chainFaults, Daemon, TestSwarm } from './swarm.ts';

/**
 * Steps of a round. A round takes longer than the interval at which `lora-swarm node` looks at its state, so that a
 * busy job is seen.
 */
const LONG = 1_500;

test('one node takes part in the jobs of two coordinators, is killed once, and both jobs reach their end', {
  timeout: 240_000,
}, async () => {
  const swarms = [await TestSwarm.create(), await TestSwarm.create()] as const;
  const [first, second] = swarms;
  for (const [i, swarm] of swarms.entries()) {
    await (await swarm.coordinator()).ready();
    const rounds = { minPeers: 1, count: 2, localSteps: LONG };
    await swarm.createJob({ name: `tale-${i}`, rounds, lora: { rank: 4 + 2 * i } });
  }
  const invites = `${first.invite}=2\n${second.invite}\n`;
  const killed = new Daemon('node', first.nodeArguments('both', ['-']), {}, invites);
  const line = await killed.line('a job waits for the trainer', ({ event, jobs }) => {
    return event === 'state' && (jobs as NodeStatus['jobs']).some(({ state }) => state === 'busy');
  });
  const { jobs } = line as unknown as NodeStatus;
  expect(jobs.find(({ state }) => state === 'busy')!.reason).toMatch(/tale-[01]/);
  expect(jobs.map(({ weight }) => weight)).toEqual([2, 1]);
  await killed.kill();
  // The home keeps the invites, so the node joins both jobs again, and stops when both have ended.
  const node = new Daemon('node', first.nodeArguments('both', ['--once']));
  await Promise.all(swarms.map((swarm) => swarm.untilFinished()));
  for (const swarm of swarms) {
    const checkpoints = await swarm.checkpoints();
    expect(chainFaults(checkpoints)).toEqual([]);
    expect(checkpoints).toHaveLength(3);
  }
  expect((await node.exited).code).toBe(0);
});
