import { copyFileSync, rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { isSwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import type {
  RetentionSettings,
  StepsMade,
  StepsToMake,
  ValidationJob,
  Validator,
} from '../../coordinator/context.ts';
import { Coordinator } from '../../coordinator/coordinator.ts';
import type { JobRun } from '../../coordinator/job-run.ts';
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import type { PreparedJob } from '../../coordinator/record/new-job.ts';
import { SCHEMA } from '../../coordinator/store/schema/schema.ts';
import { Store } from '../../coordinator/store/store.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { Row } from '../../lora/data/row.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import type { Signer } from '../../protocol/signing.ts';
import { signerOf } from '../utils/swarm/signers.ts';
import { distance, gradientOn, lossOn, trainStep } from '../utils/virtual/fake-trainer.ts';
import { MemoryBlobs, MemoryDisk } from '../utils/virtual/memory-blobs.ts';
import { noFolders } from '../utils/virtual/no-folders.ts';
import { SEQUENCE_LENGTH, type ToyJob } from '../utils/virtual/toy-job.ts';
import type { VirtualHost } from '../utils/virtual/virtual-network.ts';
import type { VirtualEnvironment } from '../utils/virtual/virtual-node.ts';

export const COORDINATOR = signerOf(200);

const HELD_OUT_ROWS = 8;
/** Quadratic loss, which differs a little between held-out rows. */
function heldOutLosses(adapter: readonly Float32Array[]): { lossSum: number; tokens: number }[] {
  const loss = 1 + distance(adapter);
  const tokens = SEQUENCE_LENGTH;
  return Array.from({ length: HELD_OUT_ROWS }, (_, i) => ({ lossSum: tokens * (loss + 0.01 * i), tokens }));
}

/** Work of the validator on rows, apart from the evaluations of merges. */
export type RowWork = 'gradient' | 'loss' | 'training';

interface FakeValidatorOptions {
  readonly ms: () => number;
  readonly onRows?: (work: RowWork, rows: number) => void;
}

class FakeValidator implements Validator {
  readonly #clock: Clock;
  readonly #ms: () => number;
  readonly #onRows: (work: RowWork, rows: number) => void;

  constructor({ ms, onRows = () => {} }: FakeValidatorOptions, { clock }: { clock: Clock }) {
    this.#clock = clock;
    this.#ms = ms;
    this.#onRows = onRows;
  }

  async evaluate(
    _job: object,
    adapter: readonly Float32Array[],
    { signal }: { signal: AbortSignal },
  ): Promise<{ lossSum: number; tokens: number }[]> {
    await sleep(this.#clock, this.#ms(), signal);
    return heldOutLosses(adapter);
  }

  async gradient(
    _job: object,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    { signal }: { signal: AbortSignal },
  ): Promise<Float32Array[]> {
    this.#onRows('gradient', rows.length);
    await sleep(this.#clock, this.#ms() / 10, signal);
    return gradientOn(adapter, rows);
  }

  async losses(
    _job: object,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    { signal }: { signal: AbortSignal },
  ): Promise<{ lossSum: number; tokens: number }[]> {
    this.#onRows('loss', rows.length);
    await sleep(this.#clock, this.#ms() / 10, signal);
    return rows.map((row) => ({
      lossSum: SEQUENCE_LENGTH * lossOn(adapter, [row]),
      tokens: SEQUENCE_LENGTH,
    }));
  }

  async train(
    { manifest }: ValidationJob,
    { adapter, rows, steps, optimizer }: StepsToMake,
    { signal, pause }: { signal: AbortSignal; pause: AbortSignal },
  ): Promise<StepsMade> {
    const { batchSize } = manifest.training;
    const count = Math.min(steps, Math.ceil(rows.length / batchSize));
    let values = adapter;
    for (let step = 0; step < count; step++) {
      await sleep(this.#clock, this.#ms() / 10, AbortSignal.any([signal, pause])).catch(() => {});
      signal.throwIfAborted();
      if (pause.aborted)
        return { adapter: values, optimizer, steps: step, rows: step * batchSize, isComplete: false };
      const batch = rows.slice(step * batchSize, (step + 1) * batchSize);
      this.#onRows('training', batch.length);
      values = trainStep(values, batch);
    }
    return { adapter: values, optimizer, steps: count, rows: rows.length, isComplete: true };
  }

  async release(): Promise<void> {}
}

export interface VirtualCoordinatorOptions {
  readonly toy: ToyJob;
  /** Key of the coordinator, which has signed the job. @default COORDINATOR */
  readonly signer?: Signer;
  readonly retention: RetentionSettings;
  /** Who may join the job. @default everyone */
  readonly admission?: PreparedJob['admission'];
  /** @default one with the loss of FakeTrainer */
  readonly validator?: Validator;
  /** @default bytes of the environment's generator */
  readonly randomBytes?: (count: number) => Uint8Array;
  /** Loss of the base in nats per token, and the tokens that it was measured on. @default those of FakeTrainer */
  readonly baseline?: { readonly loss: number; readonly tokens: number };
  /** Whether updates are audited. @default true */
  readonly audits?: boolean;
  /** Path of the database file, for tests that back the database up. @default in memory */
  readonly storePath?: string;
  /**
   * Time of an evaluation by the default validator, in milliseconds. A gradient, a loss and an optimiser step each take
   * a tenth of it. @default a random time from 20 to 300
   */
  readonly evaluationMs?: () => number;
  /** Called for the rows that the default validator works on for scores and audits. */
  readonly onRows?: (work: RowWork, rows: number) => void;
}

interface Process {
  readonly host: VirtualHost;
  readonly clock: Clock;
  readonly blobs: MemoryBlobs;
  readonly fake: FakeValidatorOptions;
  readonly process: { readonly alive: boolean };
}

/** The machine with the coordinator. Its disk and database survive the coordinator's processes. */
export class VirtualCoordinator {
  readonly disk = new MemoryDisk();
  store: Store;
  readonly signer: Signer;
  /** Error of the machine's clock. */
  wrongMs = 0;
  readonly #options: VirtualCoordinatorOptions;
  readonly #environment: VirtualEnvironment;
  #process = { alive: false };
  #coordinator: Coordinator | null = null;
  #backups = 0;

  constructor(options: VirtualCoordinatorOptions, environment: VirtualEnvironment) {
    this.#options = options;
    this.#environment = environment;
    this.signer = options.signer ?? COORDINATOR;
    this.store = new Store(options.storePath ?? environment.databases?.take(SCHEMA) ?? ':memory:');
    for (const bytes of options.toy.blobs) this.disk.files.set(sha256(bytes), bytes);
  }

  get peer(): string {
    return this.signer.peerId;
  }

  get alive(): boolean {
    return this.#process.alive;
  }

  /** The coordinator of the newest process. */
  get coordinator(): Coordinator {
    return this.#coordinator!;
  }

  /**
   * Starts a process.
   * @param options.answersAfterMs time for which peers can connect to the process, but the coordinator answers no request
   *   yet
   */
  start({ answersAfterMs = 0 } = {}): void {
    const { clock, network, random, onWrite } = this.#environment;
    const { onRows, evaluationMs = () => random.between(20, 300) } = this.#options;
    const fake = { ms: evaluationMs, ...(onRows && { onRows }) };
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
    this.#process = process;
    const answer = (): void => this.#answer({ host, clock: own, fake, process, blobs });
    if (answersAfterMs === 0) answer();
    else own.after(answersAfterMs, answer);
  }

  #answer({ host, clock, fake, process, blobs }: Process): void {
    const { random, log } = this.#environment;
    const coordinator = new Coordinator(
      { retention: this.#options.retention, audits: this.#options.audits ?? true },
      {
        network: host,
        blobs,
        store: this.store,
        validator: this.#options.validator ?? new FakeValidator(fake, { clock }),
        randomBytes:
          this.#options.randomBytes ??
          ((count) => Uint8Array.from({ length: count }, () => random.integer(0, 255))),
        folders: noFolders,
        clock,
        log: log.child({ node: 'coordinator' }),
      },
    );
    this.#coordinator = coordinator;
    coordinator.start();
    // The operator creates the job again after each crash. This has no effect on a job that exists already.
    coordinator.create(this.#prepared()).catch((error: unknown) => {
      if (process.alive) throw error;
    });
  }

  /** Kills the process, as SIGKILL does. */
  crash(): void {
    this.#process.alive = false;
    this.#environment.network.down(this.peer);
  }

  /** Copies database and blobs, as a backup of the home does. Returns a function that restores the copy. */
  backUp(): () => void {
    const { storePath } = this.#options;
    const copy = `${storePath}.backup-${++this.#backups}`;
    const reader = new DatabaseSync(storePath!);
    reader.exec(`VACUUM INTO '${copy}'`);
    reader.close();
    const files = new Map(this.disk.files);
    return () => {
      this.store.close();
      for (const end of ['', '-wal', '-shm']) rmSync(`${storePath}${end}`, { force: true });
      copyFileSync(copy, storePath!);
      this.store = new Store(storePath!);
      this.disk.files.clear();
      for (const [digest, bytes] of files) this.disk.files.set(digest, bytes);
    };
  }

  /** Creates a personal invite of the job, for two machines. Returns its token. */
  invite(role: Role = 'contributor'): string {
    const { invites } = this.#coordinator!.jobs()[0]!.members;
    return invites.create({ name: null, role, uses: 2, expiresAt: null }).token;
  }

  /** Makes and revokes a personal invite, which changes the job key. */
  revokeInvite(): void {
    const { invites, removals } = this.#coordinator!.jobs()[0]!.members;
    const request = { name: null, role: 'contributor', uses: 1, expiresAt: null } as const;
    removals.revokeInvite(invites.create(request).invite.id);
  }

  /** Resumes the job if it is paused, as an operator does. */
  resume(): void {
    if (this.alive && this.phase === 'paused') this.#coordinator!.jobs()[0]!.operate({ type: 'resume' });
  }

  /** Bans a peer from all jobs for good. */
  ban(peer: string): void {
    this.#coordinator!.ban(peer, { job: null, reason: 'a test', until: null });
  }

  /** Changes settings of the job, as an operator does. */
  change(values: Parameters<JobRun['change']>[0]): void {
    this.#coordinator!.jobs()[0]!.change(values, { reason: '' });
  }

  /** Restores the first or the best checkpoint, as an operator can do at any time. Does nothing if that is impossible. */
  rollBack(to: 0 | 'best'): void {
    const run = this.alive ? this.#coordinator!.jobs()[0] : undefined;
    try {
      run?.rollBack(to);
    } catch (error) {
      if (!isSwarmError(error, 'JOB_OVER') && !isSwarmError(error, 'CHECKPOINT_PRUNED')) throw error;
    }
  }

  /** Whether the job is finished. */
  get finished(): boolean {
    return this.alive && this.#coordinator!.jobs()[0]?.driver.state.phase === 'finished';
  }

  get phase(): string {
    return this.#coordinator?.jobs()[0]?.driver.state.phase ?? 'none';
  }

  #prepared(): PreparedJob {
    const { toy, baseline } = this.#options;
    const { manifest, layout, initial } = toy;
    const base = heldOutLosses(decodeAdapter(initial, layout));
    return {
      manifest,
      layout,
      heldOut: new Uint8Array(1),
      admission: this.#options.admission ?? { kind: 'open' },
      token: null,
      content: 'toy',
      baseLoss: baseline ? baseline.loss : meanLoss(base),
      baseTokens: baseline ? baseline.tokens : HELD_OUT_ROWS * SEQUENCE_LENGTH,
    };
  }
}
