import { expect, test } from 'vitest';
import { verifyMessage } from '../../protocol/signing.ts';
import { checkHistory, DEADLINE_MS, type Swarm, swarm } from './backup-swarm.ts';

function caughtUp({ events }: Swarm) {
  return events().flatMap((event) => (event.type === 'caught-up' ? [event] : []));
}

/**
 * Restores a backup of round 1 after round 12, and lets the coordinator make at least three checkpoints with new nodes.
 * Then a node with the lost history starts.
 */
async function forked(seed: number, { keepsFrom = 0 } = {}) {
  const all = await swarm(seed, { rounds: 18 });
  const { coordinator, nodes, node, clock, reach, restoreBackup, newest } = all;
  await reach(1);
  const lost = await restoreBackup(12);
  for (const one of nodes) one.crash();
  coordinator.start();
  const others = [4, 5].map(node);
  for (const one of others) one.start();
  expect(await clock.run(() => newest() >= 4, DEADLINE_MS), 'own checkpoints').toBe(true);
  expect(newest()).toBeLessThan(12);
  expect(caughtUp(all)).toHaveLength(0);
  nodes[0]!.database.exec(`DELETE FROM kept_checkpoints WHERE round < ${keepsFrom}`);
  nodes[0]!.start();
  return { ...all, others, lost };
}

test('a coordinator that has made several checkpoints since the restore adopts the later head', async () => {
  const all = await forked(3);
  const { nodes, others, coordinator, lost, end } = all;
  await end();
  expect(caughtUp(all)).toMatchObject([{ round: lost, checkpoints: lost - 1, missing: 0, term: 2 }]);
  expect(coordinator.finished).toBe(true);
  expect([nodes[0]!, ...others].every(({ done }) => done)).toBe(true);
  // The other nodes count those updates that are in the dropped checkpoints, because heads named these updates. So only
  // the first node is checked.
  checkHistory({ ...all, nodes: [nodes[0]!] });
});

test('a coordinator catches up if no node has the checkpoints between the fork and its newest one', async () => {
  const all = await forked(3, { keepsFrom: 3 });
  const { coordinator, job, lost, end } = all;
  await end();
  expect(caughtUp(all)).toMatchObject([{ round: lost, checkpoints: lost - 2, missing: 1, term: 2 }]);
  const rounds = coordinator.store.rounds.checkpoints(job).map(({ round }) => round);
  expect(rounds.slice(0, 4)).toEqual([0, 1, 3, 4]);
  expect(coordinator.finished).toBe(true);
});

test('a newer copy that starts after an older copy has caught up follows the higher term', async () => {
  const all = await swarm(3, { rounds: 16 });
  const { coordinator, nodes, node, clock, job, newest, reach, pass, end } = all;
  await reach(1);
  const restoreOlder = coordinator.backUp();
  await reach(4);
  await pass(1_000);
  nodes[0]!.crash();
  await reach(12);
  await pass(1_000);
  const restoreNewer = coordinator.backUp();
  coordinator.crash();
  for (const one of nodes) one.crash();
  restoreOlder();
  coordinator.start();
  nodes[0]!.start();
  const other = node(4);
  other.start();
  expect(await clock.run(() => newest() >= 8, DEADLINE_MS), 'the older copy').toBe(true);
  await pass(1_000);
  coordinator.crash();
  restoreNewer();
  const own12 = newest();
  expect(own12).toBeGreaterThanOrEqual(12);
  coordinator.start();
  await end();
  const [event] = caughtUp(all);
  expect(caughtUp(all)).toMatchObject([{ before: own12, missing: 0, term: 3 }]);
  const head = verifyMessage('head', coordinator.store.jobs.head(job)!).message;
  expect(head).toMatchObject({ term: 3, phase: 'finished' });
  const { rounds } = coordinator.store;
  const next = rounds.checkpoints(job).find(({ round }) => round > event!.round)!;
  expect(next.round).toBeGreaterThan(12);
  expect(other.done && nodes[0]!.done).toBe(true);
  checkHistory({ ...all, nodes: [nodes[0]!, other] });
});
