import { describe, expect, test } from 'vitest';
import type { Validator } from '../../coordinator/context.ts';
import { DRIFT_LIMIT } from '../../coordinator/merge/comparison.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { TrainedRound } from '../../node/trainer/trainer.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { FakeTrainer } from '../utils/virtual/fake-trainer.ts';
import type { SeededRandom } from '../utils/virtual/seeded-random.ts';
import { toyJob, toyLayout } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

const ROUNDS = 14;
const TOLERANCE = 0.002;
const INITIAL = 0.5;
const BASE_LOSS = 4;
/** A layout with so many values that the noise of honest nodes averages out. */
const LAYOUT = toyLayout(512);
/** Change of each value of the second tensor in a node's round. */
const CHANGE = 0.01;

interface Swarm {
  readonly honest: number;
  readonly attackers: number;
  /** Share by which an honest node's round lowers the loss. */
  readonly gain: number;
  /** Share by which an attacker's round raises the loss, if it alone is merged. */
  readonly harm: number;
  readonly seed: number;
}

/**
 * The trainer of a node. Each update lowers the first tensor by the gain. Honest nodes change the second tensor at random,
 * and attackers raise all of its values by the same amount. So clipping cannot tell honest nodes from attackers.
 */
class SwarmTrainer extends FakeTrainer {
  readonly #gain: number;
  readonly #random: SeededRandom | null;

  constructor(
    { gain, random }: { gain: number; random: SeededRandom | null },
    ...rest: ConstructorParameters<typeof FakeTrainer>
  ) {
    super(...rest);
    this.#gain = gain;
    this.#random = random;
  }

  override async train(...args: Parameters<FakeTrainer['train']>): Promise<TrainedRound> {
    const trained = await super.train(...args);
    const [first, second] = args[0].adapter as [Float32Array, Float32Array];
    const random = this.#random;
    const adapter = [
      first.map((value) => value - this.#gain),
      second.map((value) => value + (random?.chance(0.5) ? -CHANGE : CHANGE)),
    ];
    return { ...trained, adapter };
  }
}

/** Runs a job whose updates are not scored, so that only the gate protects it. */
async function runJob({ honest, attackers, gain, harm, seed }: Swarm) {
  const environment = virtualEnvironment(seed);
  const { clock, random } = environment;
  const rounds = { count: ROUNDS, minPeers: honest, quorum: 1, maxSeconds: 30, preset: 'dense' } as const;
  const toy = toyJob(COORDINATOR, { layout: LAYOUT, rows: 512, rounds });
  const meanOf = (tensor: Float32Array): number =>
    tensor.reduce((sum, value) => sum + value - INITIAL, 0) / tensor.length;
  const evaluate = ([first, second]: readonly Float32Array[]): RowLoss[] => {
    const loss = BASE_LOSS * (1 + meanOf(first!) + (harm / CHANGE) * meanOf(second!));
    return Array.from({ length: 32 }, () => ({ lossSum: 8 * loss, tokens: 8 }));
  };
  const validator: Validator = {
    evaluate: async (_job, adapter) => evaluate(adapter),
    gradient: async () => {
      throw new Error('this test has no gradients');
    },
    losses: async () => {
      throw new Error('this test has no losses on rows');
    },
    train: async () => {
      throw new Error('this test has no audits');
    },
    release: async () => {},
  };
  const coordinator = new VirtualCoordinator(
    {
      toy,
      retention: { checkpoints: 0, rounds: 8 },
      validator,
      audits: false,
      baseline: { loss: BASE_LOSS, tokens: 256 },
    },
    environment,
  );
  const nodes = Array.from({ length: honest + attackers }, (_, i) => {
    const isHonest = i < honest;
    const own = { gain: isHonest ? gain : 0, random: isHonest ? random : null };
    const settings = { layout: LAYOUT, msPerStep: 100, deaths: 0, blunders: 0 };
    return new VirtualNode(
      {
        number: i + 1,
        coordinator: COORDINATOR.peerId,
        ...settings,
        options: { job: toy.job },
        trainerFor: (clock) => new SwarmTrainer(own, settings, { clock, random }),
      },
      environment,
    );
  });
  coordinator.start();
  for (const node of nodes) node.start();
  await clock.run(() => coordinator.finished || coordinator.phase === 'paused', 60 * 60_000);

  const { store } = coordinator;
  const checkpoints = store.rounds.checkpoints(toy.job);
  const codesOf = (some: readonly VirtualNode[]): string[] =>
    some.flatMap(({ peer }) => store.updates.receipts(toy.job, peer, 1_000).map(({ code }) => code));
  return {
    phase: coordinator.phase,
    losses: checkpoints.map(({ heldOutLoss }) => heldOutLoss!),
    rollBacks: checkpoints.filter(({ restores }) => restores !== null).length,
    nullRounds: store.rounds.count(toy.job, 'refused'),
    honest: codesOf(nodes.slice(0, honest)),
    attackers: codesOf(nodes.slice(honest)),
  };
}

for (const [honest, attackers] of [
  [4, 2],
  [4, 3],
] as const) {
  describe(`${attackers} attackers of ${honest + attackers}, without scores`, () => {
    for (const seed of [1, 2]) {
      test(`seed ${seed}: are removed in every round, and the job keeps learning`, async () => {
        const found = await runJob({ honest, attackers, gain: 0.01, harm: 0.15, seed });
        expect(found).toMatchObject({ phase: 'finished', rollBacks: 0, nullRounds: 0 });
        expect(found.attackers.filter((code) => code === 'left-out')).toHaveLength(ROUNDS * attackers);
        expect(found.honest).not.toContain('left-out');
        expect(found.losses.at(-1)).toBeLessThan(BASE_LOSS * (1 - 0.008 * ROUNDS));
      });

      test(`seed ${seed}: cannot let the loss drift upwards while nothing is left to learn`, async () => {
        // The harm of one round is so small that its merge passes the gate.
        const harm = (0.0018 * (honest + attackers)) / attackers;
        const found = await runJob({ honest, attackers, gain: 0, harm, seed });
        expect(found.phase).toBe('finished');
        expect(found.rollBacks).toBeGreaterThanOrEqual(1);
        for (const loss of found.losses) {
          expect(loss).toBeLessThanOrEqual(Math.min(...found.losses) * (1 + DRIFT_LIMIT * TOLERANCE + 1e-6));
        }
        expect(found.losses.at(-1)).toBeLessThanOrEqual(Math.min(...found.losses) * (1 + 2.5 * TOLERANCE));
        expect(found.honest).not.toContain('left-out');
      });
    }
  });
}
