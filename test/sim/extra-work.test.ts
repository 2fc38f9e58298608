import { expect, test } from 'vitest';
import { roundsSchema, trainingSchema } from '../../protocol/job/manifest.ts';
import { AUDIT_SHARE, EXTRA_SHARE, LOSS_COST } from '../../verify/scores/extra-work.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { SEQUENCE_LENGTH, toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, type RowWork, VirtualCoordinator } from './virtual-coordinator.ts';

const MS_PER_STEP = 50;

interface Swarm {
  readonly nodes: number;
  /** Number of nodes that train away from the optimum. */
  readonly attackers: number;
  /** Time for a step of the slowest node, as a multiple of that of the fastest. */
  readonly slowest: number;
  readonly count: number;
}

/**
 * Runs `count` rounds of a job with the default settings. Returns the cost of each kind of extra work, as a share of
 * the rows that the nodes trained on.
 */
async function extraWork({ nodes, attackers, slowest, count }: Swarm) {
  const environment = virtualEnvironment();
  const { clock } = environment;
  const toy = toyJob(COORDINATOR, {
    rows: 2048,
    training: trainingSchema.parse({ sequenceLength: SEQUENCE_LENGTH }),
    rounds: roundsSchema.parse({ minPeers: nodes - attackers, count }),
  });
  const rows: Record<RowWork, number> = { gradient: 0, loss: 0, training: 0 };
  const retention = { checkpoints: 1, rounds: 0 };
  const onRows = (work: RowWork, some: number): void => {
    rows[work] += some;
  };
  const coordinator = new VirtualCoordinator({ toy, retention, onRows }, environment);
  coordinator.start();
  for (let i = 0; i < nodes; i++) {
    const node = new VirtualNode(
      {
        number: i + 1,
        coordinator: COORDINATOR.peerId,
        layout: toy.layout,
        msPerStep: MS_PER_STEP * (1 + ((slowest - 1) * i) / (nodes - 1)),
        blunders: i < attackers ? 1 : 0,
        options: { job: toy.job },
      },
      environment,
    );
    node.start();
  }
  expect(await clock.run(() => coordinator.finished, 4 * 3_600_000)).toBe(true);
  const { store } = coordinator;
  const trained = store.rounds.newest(toy.job, 1000).flatMap(({ round, assignments }) => {
    const delivered = new Set(store.updates.ofRounds(toy.job, round, round).map(({ peer }) => peer));
    return assignments.filter(({ peer }) => delivered.has(peer)).map(({ start, end }) => end - start);
  });
  const all = trained.reduce((sum, one) => sum + one, 0);
  return {
    gradients: rows.gradient / all,
    losses: (LOSS_COST * rows.loss) / all,
    audits: rows.training / all,
  };
}

test.for([
  { nodes: 4, attackers: 0, slowest: 1, count: 20 },
  { nodes: 10, attackers: 3, slowest: 1.5, count: 10 },
])('scores, exact effects and audits together take at most a tenth of the work: %o', async (swarm) => {
  const { gradients, losses, audits } = await extraWork(swarm);
  expect(gradients).toBeGreaterThan(0.05);
  expect(losses).toBeGreaterThan(0);
  expect(audits).toBeGreaterThan(0);
  expect(audits).toBeLessThanOrEqual(AUDIT_SHARE);
  expect(gradients + losses + audits).toBeLessThanOrEqual(EXTRA_SHARE);
});
