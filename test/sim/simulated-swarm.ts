import type { Logger } from '../../common/logger.ts';
import type { DatabasePool } from '../utils/virtual/database-pool.ts';
import { SeededRandom } from '../utils/virtual/seeded-random.ts';
import { type ToyJob, toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualClock } from '../utils/virtual/virtual-clock.ts';
import { VirtualNetwork } from '../utils/virtual/virtual-network.ts';
import { type VirtualEnvironment, VirtualNode } from '../utils/virtual/virtual-node.ts';
import { ADVERSARIES, type AdversaryKind, adversary } from './adversary.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';
import { Witness } from './witness.ts';

/** Faults happen in this time. After it, everything that is down comes back and stays up. Virtual ms. */
const FAULTS_MS = 45_000;
/** Maximum number of checkpoints of a job. */
const MAX_ROUNDS = 6;
/** The job must finish within this time after the last fault. Virtual ms. */
const DEADLINE_MS = 20 * 60_000;
/** Maximum time from a write to the crash that it triggers: the crash falls between two writes, or just after the last. */
const WRITE_CRASH_MS = 25;
/** The operator looks after a paused job at this interval, and resumes it. */
const OPERATOR_MS = 10_000;
/** Maximum absence of a crashed process or of a host that is cut off. */
const MAX_ABSENCE_MS = 15_000;
/** Maximum error of a clock. With it, any two clocks differ by less than the tolerance (CLOCK_SKEW_MS). */
const WRONG_MS = 29_000;
const START = 1_700_000_000_000;

export interface SimulationOptions {
  /** Time of the faults in virtual ms. @default 45 s */
  readonly faultsMs?: number;
  /** Maximum number of checkpoints of the job. @default 6 */
  readonly maxRounds?: number;
  /** Where the machines get their databases. @default each machine makes one in memory */
  readonly databases?: DatabasePool;
}

/** The parameters of a swarm, which follow from the seed. */
interface Plan {
  readonly nodes: number;
  readonly msPerStep: number[];
  /** For each kind of random fault, and for roll-backs by the operator: mean time between two of them, in virtual ms. */
  readonly everyMs: {
    nodeCrash: number;
    coordinatorCrash: number;
    partition: number;
    clockSet: number;
    rollBack: number;
  };
  /** Probability that a write triggers a crash. */
  readonly writeCrash: { node: number; coordinator: number };
}

/** A simulated run of a coordinator and its nodes, with a schedule of faults. Everything follows from the seed. */
export class SimulatedSwarm {
  readonly toy: ToyJob;
  readonly coordinator: VirtualCoordinator;
  readonly nodes: VirtualNode[];
  /** Members that break the protocol. They never crash, and the witness checks only what becomes of their updates. */
  readonly adversaries: readonly { readonly kind: AdversaryKind; readonly node: VirtualNode }[];
  readonly witness: Witness;
  readonly clock = new VirtualClock(START);
  readonly network: VirtualNetwork;
  readonly counts = { crashes: 0, partitions: 0, clocksSet: 0, rollBacks: 0 };
  readonly #random: SeededRandom;
  readonly #plan: Plan;
  readonly #faultsMs: number;
  #calm = false;

  constructor(
    seed: number,
    log: Logger,
    { faultsMs = FAULTS_MS, maxRounds = MAX_ROUNDS, databases }: SimulationOptions = {},
  ) {
    this.#faultsMs = faultsMs;
    const random = new SeededRandom(seed);
    const { clock } = this;
    this.#random = random;
    const nodes = random.integer(2, 4);
    this.#plan = {
      nodes,
      msPerStep: Array.from({ length: nodes }, () => random.integer(50, 500)),
      everyMs: {
        nodeCrash: random.integer(8_000, 40_000),
        coordinatorCrash: random.integer(8_000, 40_000),
        partition: random.integer(15_000, 60_000),
        clockSet: random.integer(5_000, 60_000),
        rollBack: random.integer(15_000, 120_000),
      },
      writeCrash: { node: random.pick([0, 0.02, 0.08]), coordinator: random.pick([0, 0.02, 0.08]) },
    };
    this.network = new VirtualNetwork(
      {
        delayMs: [1, random.pick([10, 50, 250])],
        loss: random.pick([0, 0.02, 0.1]),
        duplicates: random.pick([0, 0.1]),
      },
      { clock, random },
    );
    this.toy = toyJob(COORDINATOR, {
      rows: 96,
      rounds: {
        count: random.integer(Math.min(3, maxRounds), maxRounds),
        minPeers: random.integer(1, Math.min(2, nodes)),
        quorum: random.pick([0.5, 0.6, 1]),
        maxSeconds: 30,
        preset: random.pick(['auto', 'dense', 'balanced', 'tiny']),
        errorFeedbackDecay: random.pick([0.3, 0.5]),
      },
    });
    const environment: VirtualEnvironment = {
      clock,
      network: this.network,
      random,
      log,
      databases,
      onWrite: (peer) => this.#onWrite(peer),
    };
    const trouble = { deaths: random.pick([0, 0.1]), blunders: random.pick([0, 0, 0.15]) };
    // The shortest retention, so that a deleted blob that is still needed fails the run.
    const retention = { checkpoints: 1, rounds: 0 };
    this.coordinator = new VirtualCoordinator({ toy: this.toy, retention }, environment);
    this.nodes = this.#plan.msPerStep.map(
      (msPerStep, i) =>
        new VirtualNode(
          {
            number: i + 1,
            coordinator: COORDINATOR.peerId,
            layout: this.toy.layout,
            msPerStep,
            ...trouble,
            options: { job: this.toy.job },
          },
          environment,
        ),
    );
    this.witness = new Witness(this);
    const choices = new SeededRandom(~seed);
    this.adversaries = Array.from({ length: choices.integer(0, Math.min(2, nodes - 1)) }, (_, index) => {
      const kind = choices.pick(ADVERSARIES);
      return {
        kind,
        node: adversary(
          { kind, index, seed: ~seed + index, toy: this.toy },
          { clock, network: this.network, random, log, databases },
          (original, changed) => this.witness.hearDamaged(original, changed),
        ),
      };
    });
    const hostile = new Set(this.adversaries.map(({ node }) => node.peer));
    this.network.onMessage = (message) => {
      if (hostile.has(message.from)) this.witness.hearAdversary(message);
      else this.witness.hear(message);
    };
  }

  /** @returns the violated rules; empty if all held */
  async run(): Promise<string[]> {
    const { clock, coordinator, nodes } = this;
    const random = this.#random;
    coordinator.start();
    for (const { node } of this.adversaries) node.start();
    for (const node of nodes)
      clock.after(random.between(0, random.pick([500, 15_000])), () => this.#up(node));
    const { everyMs } = this.#plan;
    this.#often(everyMs.nodeCrash, () => this.#crash(random.pick(nodes)));
    this.#often(everyMs.coordinatorCrash, () => this.#crash(coordinator));
    this.#often(everyMs.partition, () => this.#cutOff());
    this.#often(everyMs.clockSet, () => this.#setClock());
    this.#often(everyMs.rollBack, () => this.#rollBack());
    const operate = (): void => {
      coordinator.resume();
      clock.after(OPERATOR_MS, operate);
    };
    operate();
    await clock.run(() => false, this.#faultsMs);
    this.#calm = true;
    const finished = await clock.run(() => this.#over(), DEADLINE_MS);
    // Gives messages that are under way the time to arrive.
    await clock.run(() => false, 2_000);
    return [...(finished ? [] : [this.#stuck()]), ...this.witness.verdict()];
  }

  #over(): boolean {
    const { coordinator, nodes } = this;
    return coordinator.finished && nodes.every((node) => node.alive && node.done);
  }

  #stuck(): string {
    const nodes = this.nodes.map(({ alive, swarmNode }) => {
      const { phase, reason, head, pending } = swarmNode.view().state;
      return `${alive ? phase : 'dead'} (${reason}; head ${head?.phase} ${head?.round}; ${pending.length} open)`;
    });
    return `not finished in time: coordinator ${this.coordinator.phase}; nodes ${nodes.join(', ')}`;
  }

  #up(machine: VirtualNode | VirtualCoordinator): void {
    if (!machine.alive) machine.start();
  }

  #crash(machine: VirtualNode | VirtualCoordinator): void {
    if (this.#calm || !machine.alive) return;
    this.counts.crashes++;
    machine.crash();
    const random = this.#random;
    this.clock.after(random.between(10, random.pick([500, MAX_ABSENCE_MS])), () => this.#up(machine));
  }

  #cutOff(): void {
    if (this.#calm) return;
    this.counts.partitions++;
    const random = this.#random;
    const { peer } = random.pick([this.coordinator, ...this.nodes]);
    this.clock.after(random.between(500, MAX_ABSENCE_MS), this.network.isolate(peer));
  }

  /** Sets a machine's clock forward or back. */
  #setClock(): void {
    this.counts.clocksSet++;
    const machine = this.#random.pick([this.coordinator, ...this.nodes]);
    machine.wrongMs = Math.round(this.#random.between(-WRONG_MS, WRONG_MS));
  }

  #rollBack(): void {
    if (!this.coordinator.alive) return;
    this.counts.rollBacks++;
    this.coordinator.rollBack(this.#random.pick([0, 'best']));
  }

  #onWrite(peer: string): void {
    if (this.#calm) return;
    const { node, coordinator } = this.#plan.writeCrash;
    const machine = [this.coordinator, ...this.nodes].find((one) => one.peer === peer)!;
    const chance = machine === this.coordinator ? coordinator : node;
    if (!this.#random.chance(chance)) return;
    this.clock.after(this.#random.between(0, WRITE_CRASH_MS), () => this.#crash(machine));
  }

  /** Repeats an event as a Poisson process, until the faults are over. */
  #often(meanMs: number, event: () => void): void {
    const next = (): void => {
      this.clock.after(-meanMs * Math.log(1 - this.#random.next()), () => {
        if (this.#calm) return;
        event();
        next();
      });
    };
    next();
  }
}
