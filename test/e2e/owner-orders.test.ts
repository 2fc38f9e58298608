/** Orders of the owner of a machine to a running node. */
import { expect, it } from 'vitest';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import type { NodeStatus } from '../../node/status/api-types.ts';
import { eventually } from '../utils/eventually.ts';
import { PATIENCE_MS, TestSwarm } from './swarm.ts';

it('a node pauses between two steps, goes on, and stops after its round', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { count: 50, localSteps: 400, minPeers: 1 } });
  const node = await swarm.node('otter').ready();
  const api = await ApiClient.open(swarm.homeOf('otter'), 'node', { signal: swarm.signal });
  const wait = <T>(what: string, look: (status: NodeStatus) => T) =>
    eventually(async () => look(await api.status<NodeStatus>()), {
      what,
      timeout: PATIENCE_MS,
      interval: 100,
    });

  await wait('the node trains', ({ state, step }) => state === 'training' && step > 0);
  await api.orderNode('pause', { forMs: null });
  expect(await api.status<NodeStatus>()).toMatchObject({
    pause: { reason: 'paused' },
    hold: { reason: 'paused' },
  });
  await swarm.until(
    'the coordinator knows',
    (event) => event.type === 'peer-held' && event.reason === 'paused',
  );

  await api.orderNode('resume', {});
  await wait(
    'the node trains again',
    ({ state, step, pause }) => pause === null && state === 'training' && step > 0,
  );
  await api.orderNode('drain', {});
  expect(await node.exited).toMatchObject({ code: 0 });
  // The update of the round in which the order came was accepted.
  const events = await swarm.until(
    'an update',
    (event) => event.type === 'update' && event.code === 'accepted',
  );
  expect(events.at(-1)).toBeDefined();
}, 240_000);
