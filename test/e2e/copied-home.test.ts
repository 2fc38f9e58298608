import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TestSwarm, within } from './swarm.ts';

/** Exit code of a refused command. */
const REFUSED = 5;

it('of two nodes with a copied home, the later one stops and says why, and the earlier one goes on', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { minPeers: 1, count: 400, localSteps: 50 } });
  const first = await swarm.node('otter').ready();
  const { peerId } = first.lines[0] as { peerId: string };
  await swarm.until('otter delivers', (event) => event.type === 'update' && event.peer === peerId);
  await cp(join(swarm.homeOf('otter'), 'identity'), join(swarm.homeOf('copy'), 'identity'));
  const copy = swarm.node('copy');
  const { code } = await within('the copy ends', copy.exited, () => JSON.stringify(copy.lines));
  expect(code).toBe(REFUSED);
  expect(copy.lines.at(-1)).toMatchObject({
    error: { values: { code: 'DUPLICATE_IDENTITY' }, next: expect.stringMatching(/--home/) },
  });
  const events = await swarm.until('the event', ({ type }) => type === 'duplicate-identity');
  expect(events.at(-1)).toMatchObject({ peer: peerId });
  const peers = await (await swarm.api()).peers();
  expect(peers.find(({ peer }) => peer === peerId)).toMatchObject({ health: { level: 'red' } });
  const after = events.at(-1)!.sequence;
  await swarm.until(
    'otter delivers again',
    (event) => event.type === 'update' && event.peer === peerId && event.sequence > after,
  );
  expect(first.process.exitCode).toBe(null);
}, 200_000);
