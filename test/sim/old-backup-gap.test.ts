import { expect, test } from 'vitest';
import { checkHistory, DEADLINE_MS, type Swarm, swarm } from './backup-swarm.ts';

function caughtUp({ events }: Swarm) {
  return events().flatMap((event) => (event.type === 'caught-up' ? [event] : []));
}

/** Rounds of the checkpoints in the database that do not continue the checkpoint before. */
function gaps({ coordinator, job }: Swarm): number[] {
  return coordinator.store.gaps.of(job).map(({ above }) => above.round);
}

/** Restores a backup of round 2 after round 10. Only the first node starts, and lacks some checkpoints. */
async function restored(seed: number, { lacks, rounds = 14 }: { lacks: string; rounds?: number }) {
  const all = await swarm(seed, { rounds });
  const { coordinator, nodes, clock, job, reach, restoreBackup } = all;
  await reach(2);
  const lost = await restoreBackup(async () => {
    await reach(10);
    // The update of the first node for the round in progress gets a receipt, and no checkpoint will contain it.
    const { peer, store } = nodes[0]!;
    const isAccepted = () => store.kept.recall(job, { after: 10, maxBytes: 1e6 }).receipts.length > 0;
    expect(await clock.run(isAccepted, DEADLINE_MS), `the update of ${peer}`).toBe(true);
    expect(coordinator.store.rounds.find(job, 11)!.outcome).toBeNull();
  });
  for (const node of nodes) node.crash();
  nodes[0]!.database.exec(`DELETE FROM kept_checkpoints WHERE ${lacks}`);
  coordinator.start();
  nodes[0]!.start();
  return { ...all, lost };
}

test('a coordinator waits for a node that has the checkpoints that the first node lacks', async () => {
  const all = await restored(5, { lacks: 'round IN (5, 7)' });
  const { nodes, lost, pass, end } = all;
  await pass(7_000);
  expect(caughtUp(all)).toEqual([]);
  for (const node of nodes.slice(1)) node.start();
  await end();
  expect(caughtUp(all)).toMatchObject([{ before: 2, round: lost, checkpoints: lost - 2, missing: 0 }]);
  checkHistory(all);
});

test('nodes that connect after the adoption fill the gap together', async () => {
  const all = await restored(5, { lacks: 'round IN (5, 7)' });
  const { coordinator, nodes, clock, job, lost, pass, end } = all;
  await pass(15_000);
  expect(caughtUp(all)).toMatchObject([{ before: 2, round: lost, checkpoints: lost - 5, missing: 3 }]);
  expect(gaps(all)).toEqual([8]);
  // The first node has round 6, and the second node has rounds 5 and 7.
  nodes[1]!.database.exec('DELETE FROM kept_checkpoints WHERE round = 6');
  nodes[1]!.start();
  expect(await clock.run(() => gaps(all).length === 0, 5_000), 'the gap is filled').toBe(true);
  const { rounds } = coordinator.store;
  expect(rounds.checkpointRounds(job).slice(0, 11)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  nodes[2]!.start();
  await end();
  expect(rounds.count(job, 'checkpoint')).toBe(14);
  expect(rounds.checkpoints(job)).toHaveLength(15);
  checkHistory(all);
});

test('a coordinator keeps the checkpoints on both sides of a gap', async () => {
  const all = await restored(5, { lacks: 'round IN (5, 6)' });
  const { nodes, coordinator, job, lost, pass, end } = all;
  await pass(15_000);
  expect(caughtUp(all)).toMatchObject([{ before: 2, round: lost, checkpoints: lost - 4, missing: 2 }]);
  expect(gaps(all)).toEqual([7]);
  const rounds = coordinator.store.rounds.checkpointRounds(job);
  expect(rounds.slice(0, 7)).toEqual([0, 1, 2, 3, 4, 7, 8]);
  for (const node of nodes.slice(1)) {
    node.database.exec('DELETE FROM kept_checkpoints WHERE round IN (5, 6)');
    node.start();
  }
  await end();
  expect(gaps(all)).toEqual([7]);
  const { rounds: stored } = coordinator.store;
  expect(stored.count(job, 'checkpoint')).toBe(14);
});
