import { expect, test } from 'vitest';
import type { ScoreTrainer } from '../../node/trainer/trainer.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { gradientOn, lossOn } from '../utils/virtual/fake-trainer.ts';
import { SEQUENCE_LENGTH, toyJob, toyLayout } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

const NODES = 5;
const ROUNDS = 5;

/** Computes what the coordinator's validator computes. @param sign −1 for a node that lies */
function scoreTrainer(sign = 1): ScoreTrainer {
  return {
    lossGradient: async (adapter, rows) =>
      gradientOn(adapter, rows).map((tensor) => tensor.map((value) => sign * value)),
    losses: async (adapter, rows) =>
      rows.map((row) => ({ lossSum: SEQUENCE_LENGTH * lossOn(adapter, [row]), tokens: SEQUENCE_LENGTH })),
  };
}

/**
 * Runs a job without faults whose scores a node offers to compute.
 * @param isSlow whether the coordinator is too slow to score. The node then joins after scoring has failed in round 1
 */
async function runJob({
  trainer,
  role,
  isSlow = false,
}: {
  trainer: ScoreTrainer;
  role: Role;
  isSlow?: boolean;
}) {
  const environment = virtualEnvironment();
  const { clock } = environment;
  const rounds = { count: ROUNDS, minPeers: NODES, quorum: 1, maxSeconds: 120, preset: 'dense' } as const;
  // With fewer parameters, the scores would be noisy.
  const layout = toyLayout(256);
  const toy = toyJob(COORDINATOR, { layout, rows: 2048, rounds: { ...rounds, localSteps: 40 } });
  const own = { gradient: 0, loss: 0, training: 0 };
  const coordinator = new VirtualCoordinator(
    {
      ...{ toy, retention: { checkpoints: 0, rounds: 8 }, audits: false },
      ...(isSlow && { evaluationMs: () => 20_000 }),
      onRows: (work, rows) => {
        own[work] += rows;
      },
    },
    environment,
  );
  coordinator.start();
  await clock.run(() => coordinator.phase === 'waiting', 10_000);
  const node = (number: number, more: object): VirtualNode =>
    new VirtualNode(
      {
        ...{ number, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: 100 },
        options: { job: toy.job },
        ...more,
      },
      environment,
    );
  const nodes = Array.from({ length: NODES }, (_, i) => node(i + 1, { blunders: i === NODES - 1 ? 1 : 0 }));
  const invite = coordinator.invite(role);
  const scorer = node(NODES + 1, { scoreTrainer: trainer, options: { job: toy.job, invite } });
  const eventsOf = () => coordinator.store.events.after(toy.job, 0, 100_000);
  const failures = (): unknown[] => eventsOf().filter(({ type }) => type === 'scoring-failed');
  if (isSlow) {
    for (const one of nodes) one.start();
    expect(await clock.run(() => failures().length > 0, 10 * 60_000)).toBe(true);
  }
  scorer.start();
  await clock.run(() => scorer.swarmNode.view().context !== null, 60_000);
  await clock.run(() => false, 3_000);
  if (!isSlow) for (const one of nodes) one.start();
  expect(await clock.run(() => coordinator.finished, 10 * 60_000)).toBe(true);
  const events = eventsOf();
  const scored = events.flatMap((event) => (event.type === 'scored' ? [event] : []));
  return {
    scorer: scorer.peer,
    scorers: scored.map((event) => event.scorer ?? null),
    failures: failures(),
    dropped: events.flatMap((event) => (event.type === 'scorer-failed' ? [event] : [])),
    rows: scored.reduce((sum, { rows }) => sum + rows, 0),
    own: own.gradient + own.loss,
    beliefs: nodes.map(({ peer }) => coordinator.store.scores.ofPeer(toy.job, peer, 1)[0]!.belief),
    exact: nodes.flatMap(({ peer }) =>
      coordinator.store.scores.ofPeer(toy.job, peer, ROUNDS).map(({ figures }) => figures?.exact ?? null),
    ),
  };
}

test('a node of the operator computes the scores, and the coordinator only those of one update', async () => {
  const { scorer, scorers, rows, own, beliefs, exact } = await runJob({
    trainer: scoreTrainer(),
    role: 'operator',
  });
  expect(scorers).toEqual(Array(ROUNDS).fill(scorer));
  expect(own).toBeLessThan(0.4 * rows);
  expect(beliefs.at(-1)).toBe(0);
  for (const belief of beliefs.slice(0, -1)) expect(belief).toBeGreaterThan(0);
  expect(exact.some((figure) => figure !== null)).toBe(true);
});

test('the node is asked in the rounds in which a slow coordinator computes no scores itself', async () => {
  const { scorer, scorers, failures, beliefs } = await runJob({
    trainer: scoreTrainer(),
    role: 'operator',
    isSlow: true,
  });
  expect(failures).toMatchObject([{ round: 1 }]);
  expect(scorers).toEqual(Array(ROUNDS - 1).fill(scorer));
  expect(beliefs.at(-1)).toBe(0);
  for (const belief of beliefs.slice(0, -1)) expect(belief).toBeGreaterThan(0);
});

test('a wrong figure is found, and the node is not asked again', async () => {
  const { scorer, scorers, dropped, beliefs } = await runJob({ trainer: scoreTrainer(-1), role: 'operator' });
  expect(scorers).toEqual(Array(ROUNDS).fill(null));
  expect(dropped).toMatchObject([{ round: 1, peer: scorer, work: 'scores', isWrong: true }]);
  for (const belief of beliefs.slice(0, -1)) expect(belief).toBeGreaterThan(0);
});

test('the coordinator computes the scores itself if the node does not answer, or is no operator', async () => {
  const silent = { ...scoreTrainer(), lossGradient: () => new Promise<never>(() => {}) };
  const { scorers } = await runJob({ trainer: silent, role: 'operator' });
  expect(scorers).toEqual(Array(ROUNDS).fill(null));
  const observer = await runJob({ trainer: scoreTrainer(), role: 'observer' });
  expect(observer.scorers).toEqual(Array(ROUNDS).fill(null));
});
