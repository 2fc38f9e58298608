import { expect, it } from 'vitest';
import { TestSwarm } from './swarm.ts';

it('a node that joins in round 4 of 8 contributes by round 6', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  // A round takes longer than a node needs to start: the same processor does both, however fast it is.
  await swarm.createJob({ rounds: { count: 8, localSteps: 1500 } });
  for (const name of ['otter', 'heron']) swarm.node(name);

  await swarm.until('round 4 opens', (event) => event.type === 'round-opened' && event.round === 4);
  const late = swarm.node('badger');
  const { peerId } = await late.line('ready', ({ event }) => event === 'ready');

  await swarm.untilFinished();
  const contributed = (await swarm.checkpoints())
    .filter(({ checkpoint }) => checkpoint.contributors.some(({ peer }) => peer === peerId))
    .map(({ round }) => round);
  expect(contributed[0]).toBeGreaterThanOrEqual(4);
  expect(contributed[0]).toBeLessThanOrEqual(6);
}, 400_000);
