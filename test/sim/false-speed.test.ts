import { describe, expect, test } from 'vitest';
import { verifyMessage } from '../../protocol/signing.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

const NODES = 4;
const ROUNDS = 6;
/**
 * Steps of a round. Each node gets at least a third of them, which is not less than the minimum for a node on probation
 * (MIN_STEPS).
 */
const LOCAL_STEPS = 18;

/** Runs a job in which all nodes train at one speed, but the last one delivers at once and sends harmful updates. */
async function runJob(seed: number, liar: { msPerStep: number; blunders: number }) {
  const environment = virtualEnvironment(seed);
  const { clock } = environment;
  const rounds = {
    count: ROUNDS,
    localSteps: LOCAL_STEPS,
    minPeers: NODES,
    quorum: 1,
    maxSeconds: 30,
    preset: 'dense',
  } as const;
  const toy = toyJob(COORDINATOR, { rows: 512, rounds });
  const coordinator = new VirtualCoordinator({ toy, retention: { checkpoints: 0, rounds: 8 } }, environment);
  const nodes = Array.from({ length: NODES }, (_, i) => {
    const isLiar = i === NODES - 1;
    const options = { number: i + 1, coordinator: COORDINATOR.peerId, layout: toy.layout };
    const behaviour = isLiar ? liar : { msPerStep: 1000, blunders: 0 };
    return new VirtualNode({ ...options, ...behaviour, options: { job: toy.job } }, environment);
  });
  coordinator.start();
  for (const node of nodes) node.start();
  expect(await clock.run(() => coordinator.finished, 20 * 60_000)).toBe(true);

  const { store } = coordinator;
  const played = store.rounds.newest(toy.job, ROUNDS).reverse();
  const steps = played.map(({ assignments }) =>
    nodes.map(({ peer }) => assignments.find((one) => one.peer === peer)!.steps),
  );
  const shares = store.rounds.checkpoints(toy.job).flatMap(({ envelope }) => {
    const { contributors } = verifyMessage('checkpoint', envelope).message;
    const total = contributors.reduce((sum, { weight }) => sum + weight, 0);
    const own = contributors.filter(({ peer }) => peer === nodes[NODES - 1]!.peer);
    return total > 0 ? [own.reduce((sum, { weight }) => sum + weight, 0) / total] : [];
  });
  const speeds = nodes.map(({ peer }) => store.peers.all(toy.job).find((one) => one.peer === peer)!.speed);
  return { steps, shares, speeds };
}

describe('a node that delivers at once without training', () => {
  for (const seed of [1, 2]) {
    test(`seed ${seed}: takes no steps from the others, and gets the fewest steps and no weight`, async () => {
      const { steps, shares, speeds } = await runJob(seed, { msPerStep: 1, blunders: 1 });
      expect(speeds[NODES - 1]!).toBeGreaterThan(3 * speeds[0]!);
      for (const [round, given] of steps.entries()) {
        // Belief is noisy on few rows, so an honest node may get somewhat fewer steps. If the
        // coordinator believed the false speed, all honest nodes would get a third of the steps.
        const honest = given.slice(0, -1);
        const mean = honest.reduce((sum, steps) => sum + steps, 0) / honest.length;
        expect(mean, `round ${round + 1}: ${given}`).toBeGreaterThan(0.8 * LOCAL_STEPS);
        if (round > 0) expect(given.at(-1), `round ${round + 1}`).toBe(Math.ceil(LOCAL_STEPS / 3));
      }
      expect(Math.max(...shares)).toBe(0);
    });
  }

  test('an honest node that is ten times as fast gets more steps than the others, once it is believed', async () => {
    const { steps } = await runJob(1, { msPerStep: 100, blunders: 0 });
    const last = steps.at(-1)!;
    expect(last.at(-1)).toBe(LOCAL_STEPS);
    for (const slow of last.slice(0, -1)) expect(slow).toBeLessThanOrEqual(LOCAL_STEPS / 2);
    for (const given of steps.slice(0, 3)) {
      for (const slow of given.slice(0, -1)) expect(slow).toBeGreaterThan(0.5 * LOCAL_STEPS);
    }
  });
});
