import type { Logger } from '../../../common/logger.ts';
import type { Clock } from '../../../common/time/clock.ts';
import type { AdapterLayout } from '../../../lora/adapter/layout.ts';
import type { SwarmNetwork } from '../../../net/network.ts';
import type { QuestionAnswerer } from '../../../node/evaluation/answerer.ts';
import type { SwarmNodeOptions } from '../../../node/jobs/context.ts';
import type { SwarmNode } from '../../../node/jobs/swarm-node.ts';
import { SwarmNodes } from '../../../node/jobs/swarm-nodes.ts';
import { Pauses } from '../../../node/limits/pauses.ts';
import { defaultPolicy } from '../../../node/limits/policy.ts';
import { nodeStatus } from '../../../node/status/node-status.ts';
import { NodeStore } from '../../../node/store/node-store.ts';
import { SCHEMA } from '../../../node/store/schema.ts';
import type { NodeTrainer, ScoreTrainer } from '../../../node/trainer/trainer.ts';
import type { NodeStatus } from '../../../protocol/api/node.ts';
import { RPC_TIMEOUT_MS } from '../../../protocol/limits.ts';
import type { Signer } from '../../../protocol/signing.ts';
import { Database } from '../../../storage/database.ts';
import { NO_COST } from '../swarm/node-status.ts';
import { signerOf } from '../swarm/signers.ts';
import type { DatabasePool } from './database-pool.ts';
import { FakeTrainer, type FakeTrainerOptions } from './fake-trainer.ts';
import { MemoryBlobs, MemoryDisk } from './memory-blobs.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { VirtualClock } from './virtual-clock.ts';
import { addressOf, type VirtualHost, type VirtualNetwork } from './virtual-network.ts';

/** Shared parts of a simulated swarm. */
export interface VirtualEnvironment {
  readonly clock: VirtualClock;
  readonly network: VirtualNetwork;
  readonly random: SeededRandom;
  readonly log: Logger;
  /** Where the machines get their databases. @default each machine makes one in memory */
  readonly databases?: DatabasePool | undefined;
  /** Called when a process begins to write to its disk. */
  readonly onWrite?: (peer: string) => void;
}

export interface VirtualNodeOptions {
  number: number;
  coordinator: string;
  layout: AdapterLayout;
  msPerStep: number;
  deaths?: number;
  blunders?: number;
  /** Makes the trainer of a process. @default a FakeTrainer */
  trainerFor?: (clock: Clock) => NodeTrainer;
  /** Computes scores for the coordinator. @default the node does not offer this */
  scoreTrainer?: ScoreTrainer;
  /** Answers the questions of evaluations for the coordinator. @default the node does not offer this */
  answerer?: QuestionAnswerer;
  /** Returns the network that the node uses, for nodes that break the protocol. @default `host` */
  networkFor?: (host: VirtualHost) => SwarmNetwork;
  options?: Partial<SwarmNodeOptions>;
  /** Further invites of the node, which differ from the first in these options. @default none */
  more?: readonly Partial<SwarmNodeOptions>[];
}

/** A machine with a node. Its disk and database survive the node's processes. */
export class VirtualNode {
  readonly signer: Signer;
  readonly disk = new MemoryDisk();
  /** The pause of the node, which a test sets. */
  readonly pauses = new Pauses();
  /** Names of the jobs whose invites the node keeps. */
  readonly known = new Set<string>();
  readonly database: Database;
  /** Error of the machine's clock. */
  wrongMs = 0;
  readonly #options: VirtualNodeOptions;
  readonly #environment: VirtualEnvironment;
  #process: { alive: boolean } = { alive: false };
  #nodes: SwarmNodes | null = null;
  #host: VirtualHost | null = null;
  #trainer: FakeTrainer | null = null;

  constructor(options: VirtualNodeOptions, environment: VirtualEnvironment) {
    this.#options = options;
    this.#environment = environment;
    this.database = environment.databases?.take(SCHEMA) ?? new Database({ path: ':memory:', schema: SCHEMA });
    this.signer = signerOf(options.number);
  }

  get peer(): string {
    return this.signer.peerId;
  }

  get alive(): boolean {
    return this.#process.alive;
  }

  get nodes(): SwarmNodes {
    return this.#nodes!;
  }

  /** The node's part in the job of its first invite. */
  get swarmNode(): SwarmNode {
    return this.nodes.all[0]!;
  }

  /** Whether no job of the node needs anything more of it. */
  get done(): boolean {
    return this.nodes.all.every(({ isDone }) => isDone);
  }

  get host(): VirtualHost {
    return this.#host!;
  }

  get trainer(): FakeTrainer {
    return this.#trainer!;
  }

  /** The node's store, read from outside. */
  get store(): NodeStore {
    return new NodeStore(this.database);
  }

  /** The node's status, as its control API shows it. The node must know its first job. */
  status(): NodeStatus {
    const { deps } = this.swarmNode.view().context!;
    const facts = { name: 'node-1', version: 'test', startedAt: 0, cost: () => NO_COST };
    return nodeStatus({ nodes: this.nodes, deps, ...facts });
  }

  start(): void {
    const { clock, network, random, log, onWrite } = this.#environment;
    const { number, coordinator, layout, msPerStep, deaths = 0, blunders = 0 } = this.#options;
    const process = { alive: true };
    const isAlive = (): boolean => process.alive;
    const own = clock.process(isAlive, () => this.wrongMs);
    const blobs = new MemoryBlobs({
      disk: this.disk,
      clock,
      random,
      isAlive,
      onWrite: () => onWrite?.(this.peer),
    });
    const host = network.host({ signer: this.signer, blobs, isAlive });
    // A real call with small messages has the same limit.
    host.callMs = RPC_TIMEOUT_MS;
    const training: FakeTrainerOptions = { layout, msPerStep, deaths, blunders };
    const trainer = new FakeTrainer(training, { clock: own, random });
    const { trainerFor = () => trainer, networkFor = () => host, scoreTrainer, answerer } = this.#options;
    this.#process = process;
    this.#host = host;
    this.#trainer = trainer;
    const options: SwarmNodeOptions = {
      addresses: [addressOf(coordinator)],
      job: null,
      invite: null,
      name: `node-${number}`,
      agent: 'sim',
      policy: defaultPolicy,
      ...this.#options.options,
    };
    const { more = [] } = this.#options;
    this.#nodes = new SwarmNodes([options, ...more.map((other) => ({ ...options, ...other }))], {
      network: networkFor(host),
      blobs,
      trainer: trainerFor(own),
      ...(scoreTrainer && { scoreTrainer }),
      ...(answerer && { answerer }),
      store: new NodeStore(this.database),
      checkDisk: async () => {
        if (this.disk.failure !== null) throw this.disk.failure;
      },
      knownJobs: {
        remember: (_invite, { name }) => void this.known.add(name),
        forget: () => this.known.clear(),
      },
      pauses: this.pauses,
      clock: own,
      log: log.child({ node: number }),
      random: random.next,
      randomBytes: (count) => Uint8Array.from({ length: count }, () => random.integer(0, 255)),
      meter: { receiptArrived: () => {}, roundTrained: () => {}, roundLost: () => {} },
    });
    this.#nodes.start();
  }

  /** Kills the process, as SIGKILL does. Only the disk and the database remain. */
  crash(): void {
    this.#process.alive = false;
    this.#environment.network.down(this.peer);
  }
}
