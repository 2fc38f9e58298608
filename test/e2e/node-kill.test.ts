import { expect, it } from 'vitest';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import { eventually } from '../utils/eventually.ts';
import { chainFaults, PATIENCE_MS, TestSwarm } from './swarm.ts';

it('a node that is killed in a round misses only that round', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { count: 7, localSteps: 1500 } });
  await Promise.all(['otter', 'heron'].map((name) => swarm.node(name).ready()));
  const victim = await swarm.node('badger').ready();
  const { peerId } = await victim.line('ready', ({ event }) => event === 'ready');

  const status = await ApiClient.open(swarm.homeOf('badger'), 'node', { signal: swarm.signal });
  const killedIn = await eventually(
    async () => {
      const { state, round, step, steps } = await status.status<NodeStatus>();
      return state === 'training' && round >= 2 && step > 0 && step < steps / 2 ? round : null;
    },
    { what: 'the victim is in the first half of a round', timeout: PATIENCE_MS, interval: 300 },
  );
  await victim.kill();

  const events = await swarm.until(
    `round ${killedIn} is committed`,
    (event) => event.type === 'checkpoint' && event.round === killedIn,
  );
  const closed = events.find((event) => event.type === 'round-closed' && event.round === killedIn);
  expect(closed).toMatchObject({ updates: 2, assigned: 3 });

  swarm.node('badger');
  const finished = await swarm.untilFinished();
  const after = finished.filter(
    (event) =>
      event.type === 'update' && event.peer === peerId && event.code === 'accepted' && event.round > killedIn,
  );
  expect(after.length).toBeGreaterThan(0);
  expect(chainFaults(await swarm.checkpoints())).toEqual([]);
}, 400_000);
