import { expect, it } from 'vitest';
import { TestSwarm } from './swarm.ts';

it('a node that joins a running job contributes within two rounds (in round 4: by round 6)', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { count: 12, localSteps: 300 } });
  for (const name of ['otter', 'heron']) swarm.node(name);

  await swarm.until('round 4 opens', (event) => event.type === 'round-opened' && event.round === 4);
  const late = swarm.node('badger');
  const { peerId } = await late.line('ready', ({ event }) => event === 'ready');

  const events = await swarm.untilFinished();
  // How many rounds pass while a process starts depends on the machine; from its arrival on it does not.
  const arrival = events.findIndex((event) => event.type === 'peer-joined' && event.peer === peerId);
  const opened = events.slice(0, arrival).filter((event) => event.type === 'round-opened');
  const contributed = (await swarm.checkpoints())
    .filter(({ checkpoint }) => checkpoint.contributors.some(({ peer }) => peer === peerId))
    .map(({ round }) => round);
  expect(opened.length).toBeGreaterThanOrEqual(4);
  expect(contributed[0]).toBeGreaterThanOrEqual(opened.length);
  expect(contributed[0]).toBeLessThanOrEqual(opened.length + 2);
}, 240_000);
