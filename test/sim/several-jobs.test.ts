import { expect, test } from 'vitest';
import { silentLogger } from '../../monitor/logs/log.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { signerOf } from '../utils/swarm/signers.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import type { SeededRandom } from '../utils/virtual/seeded-random.ts';
import { type ToyJob, toyJob } from '../utils/virtual/toy-job.ts';
import type { VirtualClock } from '../utils/virtual/virtual-clock.ts';
import { addressOf } from '../utils/virtual/virtual-network.ts';
import { type VirtualEnvironment, VirtualNode } from '../utils/virtual/virtual-node.ts';
import { VirtualCoordinator } from './virtual-coordinator.ts';

const SIGNERS = [signerOf(200), signerOf(201)] as const;
const SEEDS = 6;
const ROUNDS = 8;
const STEP_MS = 500;
const CRASHES = 3;
const DEADLINE_MS = 30 * 60_000;

interface Swarms {
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly coordinators: readonly VirtualCoordinator[];
  readonly toys: readonly ToyJob[];
  /** The first node takes part in both jobs, the others in one each. */
  readonly nodes: readonly VirtualNode[];
}

/** Two coordinators with one job each, and a node that takes part in both jobs, with a weight for each. */
function twoSwarms(seed: number, weights: readonly [number, number] = [1, 1]): Swarms {
  const { clock, network, random } = virtualEnvironment(seed, { delayMs: [1, 50] });
  const environment: VirtualEnvironment = { clock, network, random, log: silentLogger };
  const toys = SIGNERS.map((signer, i) =>
    toyJob(signer, { rounds: { count: ROUNDS, minPeers: 1, maxSeconds: 60 + i, localSteps: 12 } }),
  );
  const retention = { checkpoints: 1, rounds: 0 };
  const coordinators = toys.map(
    (toy, i) => new VirtualCoordinator({ toy, signer: SIGNERS[i]!, retention }, environment),
  );
  const options = { layout: toys[0]!.layout, msPerStep: STEP_MS };
  const both = new VirtualNode(
    {
      ...options,
      number: 1,
      coordinator: SIGNERS[0].peerId,
      options: { weight: weights[0] },
      more: [{ addresses: [addressOf(SIGNERS[1].peerId)], weight: weights[1] }],
    },
    environment,
  );
  const alone = SIGNERS.map(
    ({ peerId }, i) => new VirtualNode({ ...options, number: i + 2, coordinator: peerId }, environment),
  );
  return { clock, random, coordinators, toys, nodes: [both, ...alone] };
}

/**
 * Returns the violations of two rules: each update is merged at most once, and its node knows whether it was merged.
 */
function violations({ coordinators, toys, nodes }: Swarms): string[] {
  return coordinators.flatMap(({ store }, i) => {
    const { job } = toys[i]!;
    const merged = store.rounds.checkpoints(job).flatMap(({ envelope }) => {
      const { contributors } = verifyMessage('checkpoint', envelope).message;
      return contributors.map(({ peer, round }) => `${peer} ${round}`);
    });
    const twice = merged.filter((key, at) => merged.indexOf(key) < at);
    const wrong = nodes.flatMap((node) =>
      node.store
        .updates(Number.MAX_SAFE_INTEGER)
        .filter((update) => update.job === job)
        .map(({ round, outcome }) => ({ key: `${node.peer} ${round}`, outcome }))
        .filter(({ key, outcome }) => (outcome === 'counted') !== merged.includes(key))
        .map(({ key, outcome }) => `job ${i}: ${key} is ${outcome}`),
    );
    return [...twice.map((key) => `job ${i}: ${key} is merged twice`), ...wrong];
  });
}

function mergedOf({ coordinators, toys }: Swarms, node: VirtualNode): number[] {
  return coordinators.map(
    ({ store }, i) =>
      store.rounds.checkpoints(toys[i]!.job).filter(({ envelope }) => {
        const { contributors } = verifyMessage('checkpoint', envelope).message;
        return contributors.some(({ peer }) => peer === node.peer);
      }).length,
  );
}

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`seed ${seed}: a node that is killed again and again takes part in both jobs, exactly once per round`, async () => {
    const swarms = twoSwarms(seed);
    const { clock, random, coordinators, nodes } = swarms;
    for (const machine of [...coordinators, ...nodes]) machine.start();
    for (let crash = 0; crash < CRASHES; crash++) {
      await clock.run(() => false, random.integer(3_000, 15_000));
      const machine = random.pick([nodes[0]!, nodes[0]!, ...coordinators]);
      machine.crash();
      await clock.run(() => false, random.integer(10, 5_000));
      machine.start();
    }
    const over = (): boolean => coordinators.every(({ finished }) => finished) && nodes[0]!.done;
    expect(await clock.run(over, DEADLINE_MS), `seed ${seed}`).toBe(true);
    await clock.run(() => false, 2_000);
    expect(violations(swarms), `seed ${seed}`).toEqual([]);
    for (const merged of mergedOf(swarms, nodes[0]!)) expect(merged, `seed ${seed}`).toBeGreaterThan(0);
  });
}

test('a node that shares its trainer gets fewer steps in each job, and delivers in most rounds', async () => {
  /** Tokens of each merged update of the node that shares its trainer, and of the other nodes. */
  const tokens = { shared: [] as number[], alone: [] as number[] };
  for (const seed of [1, 2, 3, 4]) {
    const swarms = twoSwarms(seed);
    const { clock, coordinators, nodes, toys } = swarms;
    for (const machine of [...coordinators, ...nodes]) machine.start();
    expect(await clock.run(() => coordinators.every(({ finished }) => finished), DEADLINE_MS)).toBe(true);
    for (const merged of mergedOf(swarms, nodes[0]!)) expect(merged).toBeGreaterThanOrEqual(ROUNDS - 3);
    for (const [i, { store }] of coordinators.entries()) {
      for (const { envelope } of store.rounds.checkpoints(toys[i]!.job)) {
        for (const contributor of verifyMessage('checkpoint', envelope).message.contributors) {
          tokens[contributor.peer === nodes[0]!.peer ? 'shared' : 'alone'].push(contributor.tokens);
        }
      }
    }
  }
  const mean = (counts: readonly number[]): number => counts.reduce((sum, n) => sum + n, 0) / counts.length;
  // The updates of the shared node have fewer tokens, because its coordinators measure a lower speed.
  expect(mean(tokens.shared)).toBeLessThan(0.9 * mean(tokens.alone));
});
