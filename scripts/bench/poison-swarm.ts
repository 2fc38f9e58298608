/** One run of the poison benchmark: the real coordinator and real nodes on a virtual clock, with real training. */
import type { StepsMade, StepsToMake, ValidationJob, Validator } from '../../coordinator/context.ts';
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import type { Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { COORDINATOR, VirtualCoordinator } from '../../test/sim/virtual-coordinator.ts';
import { signerOf } from '../../test/utils/swarm/signers.ts';
import { SeededRandom as VirtualRandom } from '../../test/utils/virtual/seeded-random.ts';
import { type ToyJob, toyJob } from '../../test/utils/virtual/toy-job.ts';
import { VirtualClock } from '../../test/utils/virtual/virtual-clock.ts';
import { VirtualNetwork } from '../../test/utils/virtual/virtual-network.ts';
import { VirtualNode } from '../../test/utils/virtual/virtual-node.ts';
import { LOSS_COST } from '../../verify/scores/extra-work.ts';
import type { Delta } from './attackers.ts';
import { heldBack, NodeTrainers } from './poison-nodes.ts';
import { outcomeOf, type PoisonOutcome } from './poison-outcome.ts';
import { attackOf, type PoisonRun } from './poison-run.ts';
import { Books, type SharedTrainer } from './poison-trainer.ts';

const BATCH = 4;
const VIRTUAL_DAY_MS = 24 * 3_600_000;

export interface PoisonDeps {
  readonly trainer: SharedTrainer;
  readonly rows: readonly Row[];
  /** Held-out rows of the gate. */
  readonly gateRows: readonly Row[];
}

/** Runs one swarm until its job ends. Equal settings give equal results, except for rounding in the trainer. */
export async function runPoisoned(
  run: PoisonRun,
  deps: PoisonDeps,
): Promise<PoisonOutcome & { adapter: Delta }> {
  const { trainer, gateRows } = deps;
  const losses = await trainer.evaluate(initialMatrices(trainer.layout, run.seed), gateRows);
  return new PoisonedSwarm(run, deps, losses).run();
}

class PoisonedSwarm {
  readonly #run: PoisonRun;
  readonly #deps: PoisonDeps;
  readonly #clock = new VirtualClock(1_700_000_000_000);
  readonly #coordinator: VirtualCoordinator;
  readonly #toy: ToyJob;
  readonly #nodes: VirtualNode[];
  readonly #books: Books | null;
  readonly #trainers: NodeTrainers;
  #extraRows = 0;

  constructor(run: PoisonRun, deps: PoisonDeps, initial: readonly RowLoss[]) {
    this.#run = run;
    this.#deps = deps;
    const { trainer, rows } = deps;
    const random = new VirtualRandom(run.seed);
    const clock = this.#clock;
    const network = new VirtualNetwork({ delayMs: [1, 5], loss: 0, duplicates: 0 }, { clock, random });
    this.#toy = toyJob(COORDINATOR, {
      layout: trainer.layout,
      rows,
      initial: initialMatrices(trainer.layout, run.seed),
      training: { batchSize: BATCH, microBatch: BATCH },
      rounds: { count: run.rounds, localSteps: run.steps, minPeers: 2, preset: 'balanced' },
    });
    // Rounds sort nodes by peer id. The numbers of the nodes are sorted by peer id too, so that the attackers, which
    // get the last numbers, come last in a round. The honest nodes then have the same rows as in the clean run.
    const numbers = Array.from({ length: run.honest + run.attackers }, (_, i) => i + 1).sort((a, b) =>
      signerOf(a).peerId < signerOf(b).peerId ? -1 : 1,
    );
    const peers = numbers.map((number) => signerOf(number).peerId);
    this.#books = run.split === 'even' ? null : new Books(rows, this.#partOwners(peers));
    const environment = { clock, network, random, log: silentLogger };
    this.#coordinator = new VirtualCoordinator(
      {
        toy: this.#toy,
        retention: { checkpoints: 0, rounds: 8 },
        validator: this.#validator(),
        baseline: {
          loss: meanLoss(initial)!,
          tokens: initial.reduce((sum, { tokens }) => sum + tokens, 0),
        },
        randomBytes: seededBytes(run.seed),
      },
      environment,
    );
    this.#trainers = new NodeTrainers({
      run,
      trainer,
      clock,
      round: () => this.#coordinator.store.rounds.newest(this.#toy.job, 1)[0]!.round,
      rowsFor: (some, reader) => this.#rowsFor(some, { reader }),
    });
    this.#nodes = numbers.map((number, i) => {
      const attack = i < run.honest ? null : attackOf(i - run.honest, run.attack);
      const slowness = run.unequal && run.honest > 1 ? 1 + (2 * i) / (run.honest - 1) : 1;
      const node = new VirtualNode(
        {
          number,
          coordinator: COORDINATOR.peerId,
          layout: trainer.layout,
          msPerStep: 0,
          options: { job: this.#toy.job },
          trainerFor: (own) => this.#trainers.trainerOf(peers[i]!, own, { attack, slowness }),
          ...(attack !== null && run.behaviour === 'burst' && { networkFor: heldBack }),
        },
        environment,
      );
      // Each node holds all blobs from the start, so no virtual time passes for fetching them.
      for (const [digest, bytes] of this.#coordinator.disk.files) node.disk.files.set(digest, bytes);
      return node;
    });
  }

  async run(): Promise<PoisonOutcome & { adapter: Delta }> {
    const { rounds } = this.#run;
    const coordinator = this.#coordinator;
    coordinator.start();
    for (const node of this.#nodes) node.start();
    const ended = (): boolean => coordinator.finished || coordinator.phase === 'paused';
    await this.#clock.run(ended, Math.max(1, rounds / 100) * VIRTUAL_DAY_MS);
    const outcome = this.#outcome();
    coordinator.crash();
    for (const node of this.#nodes) {
      node.crash();
      node.database.close();
    }
    return outcome;
  }

  /**
   * Returns the owners of the parts of the data. The clean run has no attackers, but its data must have the same ten parts,
   * so the missing nodes own parts too.
   */
  #partOwners(peers: readonly string[]): string[] {
    const missing = Array.from({ length: Math.max(0, 10 - peers.length) }, (_, i) => `nobody ${i}`);
    return [...peers, ...missing];
  }

  #validator(): Validator {
    const { trainer, gateRows } = this.#deps;
    const counted = async <T>(rows: number, work: Promise<T>): Promise<T> => {
      this.#extraRows += rows;
      return this.#clock.hold(work);
    };
    return {
      evaluate: (_job: ValidationJob, adapter: readonly Float32Array[]): Promise<RowLoss[]> =>
        this.#clock.hold(trainer.evaluate(adapter, gateRows)),
      gradient: (
        _job: ValidationJob,
        adapter: readonly Float32Array[],
        rows: readonly Row[],
      ): Promise<LossGradient> => counted(rows.length, trainer.gradient(adapter, this.#rowsFor(rows))),
      losses: (
        _job: ValidationJob,
        adapter: readonly Float32Array[],
        rows: readonly Row[],
      ): Promise<RowLoss[]> =>
        counted(LOSS_COST * rows.length, trainer.evaluate(adapter, this.#rowsFor(rows))),
      train: async (_job: ValidationJob, { rows, ...training }: StepsToMake): Promise<StepsMade> => {
        const work = this.#trainers.train({ ...training, rows: this.#rowsFor(rows, { isInterval: true }) });
        const { adapter, optimizer, result } = await counted(rows.length, work);
        return { adapter, optimizer, steps: result.steps, rows: rows.length, isComplete: true };
      },
      release: async () => {},
    };
  }

  #rowsFor(rows: readonly Row[], options: { reader?: string; isInterval?: boolean } = {}): readonly Row[] {
    const { store } = this.#coordinator;
    return this.#books?.replace(rows, { job: this.#toy.job, store, ...options }) ?? rows;
  }

  #outcome(): PoisonOutcome & { adapter: Delta } {
    const { honest } = this.#run;
    const { store, phase, disk } = this.#coordinator;
    const peers = this.#nodes.map(({ peer }) => peer);
    const newest = store.rounds.checkpoints(this.#toy.job).at(-1)!;
    const { adapter } = verifyMessage('checkpoint', newest.envelope).message;
    return {
      ...outcomeOf({
        run: this.#run,
        job: this.#toy.job,
        store,
        phase,
        honest: peers.slice(0, honest),
        attackers: peers.slice(honest),
        extraRows: this.#extraRows,
      }),
      adapter: decodeAdapter(disk.files.get(adapter.digest)!, this.#deps.trainer.layout),
    };
  }
}

function seededBytes(seed: number): (count: number) => Uint8Array {
  const random = new SeededRandom(seed, 2);
  return (count) => Uint8Array.from({ length: count }, () => random.integer(256));
}
