import { expect, test } from 'vitest';
import { SwarmError } from '../../common/errors.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

/**
 * A round of these nodes ends within this time. If the node with the full disk took no hold, the round would stay open
 * for a minute.
 */
const ROUND_MS = 12_000;

test('a node with a full disk says so at once, the round goes on without it, and it comes back', async () => {
  const { clock, network, random } = virtualEnvironment(1, { delayMs: [1, 50] });
  const environment = { clock, network, random, log: silentLogger };
  const rounds = { count: 12, minPeers: 2, maxSeconds: 120, localSteps: 4, quorum: 1 };
  const toy = toyJob(COORDINATOR, { rounds });
  const coordinator = new VirtualCoordinator({ toy, retention: { checkpoints: 2, rounds: 3 } }, environment);
  const nodes = [1, 2, 3].map(
    (number) =>
      new VirtualNode(
        { number, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: 500 },
        environment,
      ),
  );
  coordinator.start();
  for (const node of nodes) node.start();
  const full = nodes[0]!;
  const newest = (): number => coordinator.store.rounds.newestCheckpoints(toy.job, 1)[0]?.round ?? 0;
  const events = () => coordinator.store.events.after(toy.job, 0, 10_000);
  expect(await clock.run(() => newest() === 2, 60_000)).toBe(true);
  full.disk.failure = new SwarmError('STORE_FULL', 'no space left');
  const at = clock.now();
  expect(await clock.run(() => newest() === 4, 60_000)).toBe(true);
  expect(clock.now() - at).toBeLessThan(2 * ROUND_MS);
  const held = events().filter(({ type }) => type === 'peer-held');
  expect(held[0]).toMatchObject({ peer: full.peer, reason: 'disk-full' });
  full.disk.failure = null;
  const contributes = () =>
    events().some(
      (event) =>
        event.type === 'update' && event.peer === full.peer && event.round > newest() - 1 && event.round > 5,
    );
  expect(await clock.run(contributes, 5 * 60_000)).toBe(true);
});
