import { expect, it } from 'vitest';
import { TestSwarm } from './swarm.ts';

it('a node that joins in round 4 of 8 contributes by round 6', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  // 3,000 steps take longer than the start of a node, on a machine of any speed. With quorum 1, a round waits for all
  // its nodes, even for a slow one.
  await swarm.createJob({ rounds: { count: 8, localSteps: 3000, quorum: 1, maxSeconds: 600 } });
  for (const name of ['otter', 'heron']) swarm.node(name);
  const opens = (round: number) =>
    swarm.until(`round ${round} opens`, (event) => event.type === 'round-opened' && event.round === round);

  for (const round of [1, 2, 3, 4]) await opens(round);
  const late = swarm.node('badger');
  const { peerId } = await late.line('ready', ({ event }) => event === 'ready');
  for (const round of [5, 6, 7]) await opens(round);

  const contributed = (await swarm.checkpoints())
    .filter(({ checkpoint }) => checkpoint.contributors.some(({ peer }) => peer === peerId))
    .map(({ round }) => round);
  expect(contributed[0]).toBeGreaterThanOrEqual(4);
  expect(contributed[0]).toBeLessThanOrEqual(6);
}, 600_000);
