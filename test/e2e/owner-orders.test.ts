/** Orders of the owner of a machine to a running node. */
import { expect, it } from 'vitest';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import { eventually } from '../utils/eventually.ts';
import { PATIENCE_MS, TestSwarm } from './swarm.ts';

/** The node counts as paused if it shows the same step at this number of looks, which are 100 ms apart. */
const STILL_LOOKS = 10;

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
  // A step that was running when the order came may end after the order. Without the pause, many steps would end
  // between two looks.
  const looks: string[] = [];
  await wait('the node stands still within its round', ({ state, round, step, steps }) => {
    looks.push(`${round} ${step}`);
    const isWithin = state === 'training' && step > 0 && step < steps;
    return isWithin && looks.length > STILL_LOOKS && new Set(looks.slice(-STILL_LOOKS)).size === 1;
  });

  await api.orderNode('resume', {});
  await wait('the node trains after the pause', ({ state, step }) => state === 'training' && step > 0);
  await api.orderNode('limits', { maxDiskBytes: 1 });
  await wait('the job no longer fits', ({ hold }) => hold?.reason === 'disk');
  await swarm.until(
    'the coordinator knows the limit',
    (event) => event.type === 'peer-held' && event.reason === 'disk',
  );
  await api.orderNode('limits', { maxDiskBytes: null });
  // The order to drain must come while the node trains this round, so at least half of its steps must be left.
  const drained = await wait(
    'the node trains again',
    ({ state, step, steps, round, pause }) =>
      pause === null && state === 'training' && step > 0 && step < steps / 2 && round,
  );
  await api.orderNode('drain', {});
  expect(await node.exited).toMatchObject({ code: 0 });
  await swarm.until(
    'the update of the round in which the order came',
    (event) => event.type === 'update' && event.code === 'accepted' && event.round === drained,
  );
}, 240_000);
