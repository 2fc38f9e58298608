import type { CheckpointToWrite, RetentionSettings } from '../../../coordinator/context.ts';
import { Coordinator } from '../../../coordinator/coordinator.ts';
import type { Failpoint } from '../../../coordinator/failpoints.ts';
import type { JobRun } from '../../../coordinator/job-run.ts';
import type { PreparedJob } from '../../../coordinator/record/new-job.ts';
import { Store } from '../../../coordinator/store/store.ts';
import type { Row } from '../../../lora/data/row.ts';
import type { RowLoss } from '../../../lora/train/step.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import type { Manifest } from '../../../protocol/job/manifest.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { MemoryBlobs, MemoryDisk } from '../../utils/virtual/memory-blobs.ts';
import { noFolders } from '../../utils/virtual/no-folders.ts';
import { SeededRandom } from '../../utils/virtual/seeded-random.ts';
import { type ToyJob, type ToyJobOptions, toyJob } from '../../utils/virtual/toy-job.ts';
import { VirtualClock } from '../../utils/virtual/virtual-clock.ts';
import { VirtualNetwork } from '../../utils/virtual/virtual-network.ts';

export const COORDINATOR = signerOf(200);
/** Message of the error of a broken evaluation. */
export const EVALUATION_FAILURE = 'the evaluation has been killed';

export interface WorldOptions extends ToyJobOptions {
  acceptance?: Partial<Manifest['acceptance']>;
  admission?: PreparedJob['admission'];
  token?: string;
  retention?: RetentionSettings;
  /** Held-out loss of the initial adapter, as recorded when the job was created. @default 1 */
  baseLoss?: number;
  randomBytes?: (count: number) => Uint8Array;
  /** Held-out losses of an adapter. @default lower, the nearer its values are to zero */
  losses?: (adapter: readonly Float32Array[]) => RowLoss[];
  /** Result of training an adapter on rows. @default the same adapter */
  train?: (adapter: readonly Float32Array[], rows: readonly Row[], steps: number) => readonly Float32Array[];
  /** @default true */
  audits?: boolean;
  /** Whether a restarted coordinator holds its job until nodes have connected. @default false */
  awaitsNodes?: boolean;
  /** Gradient of the loss over rows at an adapter. @default zeros, which say nothing about an update */
  gradient?: (adapter: readonly Float32Array[], rows: readonly Row[]) => Float32Array[];
  /** Losses of an adapter on rows. @default the same for all adapters */
  rowLosses?: (adapter: readonly Float32Array[], rows: readonly Row[]) => RowLoss[];
}

/** Thrown into the code of a killed process, which must not continue. */
class Killed extends Error {}

/** One coordinator on virtual time. Its disk and database survive its processes. */
export class World {
  readonly clock = new VirtualClock(1_700_000_000_000);
  readonly random = new SeededRandom(1);
  readonly network = new VirtualNetwork({ delayMs: [1, 2], loss: 0, duplicates: 0 }, this);
  readonly disk = new MemoryDisk();
  readonly store = new Store(':memory:');
  readonly toy: ToyJob;
  /** Called at each durable step of the running process. */
  failpoint: Failpoint = () => {};
  /** Error of the machine's calendar clock, in milliseconds. */
  wrongMs = 0;
  /** Delay of the process's timers, as with a blocked event loop. */
  stalledMs = 0;
  /** Called before the folder of a checkpoint is emptied. If this throws, the process is killed before that. */
  emptied: (round: number) => void = () => {};
  /** Called with each checkpoint that is written as a folder. */
  laidOut: (checkpoint: CheckpointToWrite) => void = () => {};
  /** Called before each fetch of a blob. If this throws, the fetch fails with the exception. */
  fetching: () => void = () => {};
  /** Number of evaluations that fail from now on. */
  brokenEvaluations = 0;
  /** Number of evaluations so far. */
  evaluations = 0;
  /** Number of evaluations from now on during which the device fails, so that a fallback computes the losses. */
  fallbacks = 0;
  /** What the coordinator has reported about merges, gates and refusals, in order. */
  readonly measured: object[] = [];
  /** What the coordinator has reported about the scores of each round. */
  readonly scored: object[] = [];
  /** Figures of each audit that has ended. */
  readonly audited: { verdict: string; rows: number; share: number }[] = [];
  /** How many requests to join had each result, by code. */
  readonly joins: Record<string, number> = {};
  /** How many changes of members were not recorded, by kind. */
  readonly unrecorded: Record<string, number> = {};
  readonly #options: WorldOptions;
  #process = { alive: false };
  #current: Coordinator | null = null;

  /** What work on checkpoints (samples, tasks) needs from the coordinator. */
  checkpointWork() {
    return {
      coordinator: this.coordinator,
      store: this.store,
      folders: noFolders,
      clock: this.clock.process(() => true),
      log: silentLogger,
      baseFolder: async () => 'base',
    };
  }

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    const toy = toyJob(COORDINATOR, options);
    this.toy = {
      ...toy,
      manifest: { ...toy.manifest, acceptance: { ...toy.manifest.acceptance, ...options.acceptance } },
    };
    for (const bytes of toy.blobs) this.disk.files.set(sha256(bytes), bytes);
  }

  get alive(): boolean {
    return this.#process.alive;
  }

  get coordinator(): Coordinator {
    return this.#current!;
  }

  get run(): JobRun {
    return this.coordinator.jobs()[0]!;
  }

  /** Starts a process. It creates the job if the job does not exist yet. */
  async start(): Promise<this> {
    const process = { alive: true };
    this.#process = process;
    const isAlive = (): boolean => process.alive;
    const { clock, random } = this;
    const blobs = new MemoryBlobs({ disk: this.disk, clock, random, isAlive });
    // The tables are guarded too, because the coordinator's parts keep references to them.
    const guarded = <T extends object>(target: T, tables: boolean): T =>
      new Proxy(target, {
        get: (object, property) => {
          if (!isAlive()) throw new Killed();
          const value: unknown = Reflect.get(object, property, object);
          // A private member belongs to the object itself, not to its proxy.
          if (typeof value === 'function') return value.bind(object);
          return tables && typeof value === 'object' && value !== null ? guarded(value, false) : value;
        },
      });
    const { retention, audits = true, awaitsNodes = false } = this.#options;
    const options = { ...(retention && { retention }), audits, awaitsNodes };
    const host = this.network.host({ signer: COORDINATOR, blobs, isAlive });
    const fetch = host.fetchBlob.bind(host);
    host.fetchBlob = async (...what) => {
      this.fetching();
      await fetch(...what);
    };
    this.#current = new Coordinator(options, {
      network: host,
      blobs,
      store: guarded(this.store, true),
      validator: {
        evaluate: async (_job, adapter, { onFallback }) => {
          this.evaluations++;
          if (this.fallbacks-- > 0) onFallback('continues with a fallback');
          return this.#evaluate(adapter);
        },
        gradient: async (_job, adapter, rows) => {
          if (this.#options.gradient) return this.#options.gradient(adapter, rows);
          return adapter.map(({ length }) => new Float32Array(length));
        },
        losses: async (_job, adapter, rows) => {
          if (this.#options.rowLosses) return this.#options.rowLosses(adapter, rows);
          return rows.map(() => ({ lossSum: 8, tokens: 8 }));
        },
        train: async (_job, { adapter, optimizer, rows, steps }) => {
          const trained = (this.#options.train ?? ((before) => before))(adapter, rows, steps);
          return { adapter: trained, optimizer, steps, rows: rows.length, isComplete: true };
        },
        release: async () => {},
      },
      folders: {
        ...noFolders,
        write: async (checkpoint) => this.laidOut(checkpoint),
        empty: async (_job, round) => this.emptied(round),
      },
      clock: {
        ...clock.process(isAlive, () => this.wrongMs),
        monotonic: () => clock.monotonic() + this.stalledMs,
      },
      log: silentLogger,
      meter: {
        merge: (_job, { bytes }) => this.measured.push({ type: 'merge', bytes }),
        scoring: (_job, { seconds: _, ...figures }) => this.scored.push(figures),
        gate: (_job, { seconds: _, ...figures }) => this.measured.push({ type: 'gate', ...figures }),
        audit: (_job, { seconds: _, ...figures }) => this.audited.push(figures),
        refusal: (_job, code) => this.measured.push({ type: 'refusal', code }),
        join: (_job, code) => {
          this.joins[code] = (this.joins[code] ?? 0) + 1;
        },
        unrecorded: (_job, what) => {
          this.unrecorded[what] = (this.unrecorded[what] ?? 0) + 1;
        },
      },
      // Every process gets the same bytes, so that two worlds can be compared.
      randomBytes: this.#options.randomBytes ?? ((count) => new Uint8Array(count).fill(7)),
      failpoint: (name) => this.failpoint(name),
      fatal: (error) => {
        if (isAlive()) throw error;
      },
    });
    this.#current.start();
    let over = false;
    const creating = this.#current.create(this.prepared()).finally(() => {
      over = true;
    });
    creating.catch((error: unknown) => {
      if (isAlive()) throw error;
    });
    await this.until(() => over || !isAlive());
    return this;
  }

  /** Kills the process, as SIGKILL does: what it has not written is lost. */
  kill(): never {
    this.#process.alive = false;
    this.network.down(COORDINATOR.peerId);
    throw new Killed();
  }

  /** Lets time pass until `done` returns true. @throws after ten virtual minutes */
  async until(done: () => boolean, what = 'this'): Promise<void> {
    const deadline = this.clock.now() + 600_000;
    while (this.clock.now() < deadline) {
      try {
        if (await this.clock.run(done, deadline - this.clock.now())) return;
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
      }
    }
    throw new Error(
      `${what} has not come about; the job is ${this.alive ? this.run?.driver.state.phase : 'dead'}`,
    );
  }

  async pass(ms: number): Promise<void> {
    await this.clock
      .run(() => false, ms)
      .catch((error: unknown) => {
        if (!(error instanceof Killed)) throw error;
      });
  }

  /** Lets time pass until a promise has settled, and returns it. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const end = (): void => {
      done = true;
    };
    promise.then(end, end);
    await this.until(() => done, 'an answer');
    return promise;
  }

  #evaluate(adapter: readonly Float32Array[]): RowLoss[] {
    if (this.brokenEvaluations > 0) {
      this.brokenEvaluations--;
      throw new Error(EVALUATION_FAILURE);
    }
    return (this.#options.losses ?? quadratic)(adapter);
  }

  /** The prepared job, as `Coordinator.create` takes it. */
  prepared(): PreparedJob {
    const { manifest, layout } = this.toy;
    const { admission = { kind: 'open' }, token = null, baseLoss = 1 } = this.#options;
    const common = { heldOut: Uint8Array.of(0), content: 'toy', baseLoss, baseTokens: 64 };
    return { manifest, layout, admission, token, ...common };
  }
}

function quadratic(adapter: readonly Float32Array[]): RowLoss[] {
  let loss = 1;
  for (const tensor of adapter) for (const value of tensor) loss += value * value;
  return Array.from({ length: 8 }, (_, i) => ({ lossSum: 8 * (loss + i / 100), tokens: 8 }));
}
