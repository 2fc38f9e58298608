import { Database } from '../../storage/database.ts';
import { WebhookQueue } from '../webhooks/queue.ts';
import { AuditTable } from './audits.ts';
import { BanTable } from './bans.ts';
import { BlobTable } from './blobs.ts';
import { ConflictTable } from './conflicts.ts';
import { EventTable } from './events.ts';
import { GapTable } from './gaps.ts';
import { InviteTable } from './invites.ts';
import { JobTable } from './jobs.ts';
import { KeyTable } from './keys.ts';
import { PeerTable } from './peers.ts';
import { RoundTable } from './rounds.ts';
import { SampleTable } from './samples.ts';
import { SCHEMA } from './schema/schema.ts';
import { ScoreTable } from './scores.ts';
import { StrikeTable } from './strikes.ts';
import { SweepTable } from './sweeps.ts';
import { TaskTable } from './tasks.ts';
import { UpdateTable } from './updates.ts';

export type { SampleText } from '../../protocol/api/samples.ts';
export type { AuditResult, StoredAudit } from './audits.ts';
export type { StoredBan } from './bans.ts';
export { jobBlobs } from './blobs.ts';
export type { RevokedShared, StoredInvite } from './invites.ts';
export type { Admission, StoredJob } from './jobs.ts';
export type { StoredKeys } from './keys.ts';
export type { StoredPeer } from './peers.ts';
export type {
  HeldCheckpoint,
  RoundFacts,
  StoredCheckpoint,
  StoredRound,
} from './rounds.ts';
export type { JobSamples } from './samples.ts';
export type { EarlierShare, StoredScore } from './scores.ts';
export type { StoredStrike } from './strikes.ts';
export type { StoredSweep } from './sweeps.ts';
export type { JobTasks, TaskResult } from './tasks.ts';
export type { Fate, StoredReceipt, StoredUpdate } from './updates.ts';

/**
 * The SQLite database of a coordinator, with everything that the coordinator must know after a restart. Large values
 * are in the blob store, and the database has their digests.
 */
export class Store {
  readonly jobs: JobTable;
  readonly keys: KeyTable;
  readonly rounds: RoundTable;
  readonly gaps: GapTable;
  readonly updates: UpdateTable;
  readonly conflicts: ConflictTable;
  readonly scores: ScoreTable;
  readonly strikes: StrikeTable;
  readonly bans: BanTable;
  readonly audits: AuditTable;
  readonly tasks: TaskTable;
  readonly samples: SampleTable;
  readonly sweeps: SweepTable;
  readonly webhooks: WebhookQueue;
  readonly events: EventTable;
  readonly peers: PeerTable;
  readonly invites: InviteTable;
  readonly blobs: BlobTable;
  readonly #db: Database;

  /**
   * @param source path of the SQLite file, ":memory:", or an open database with the schema of a coordinator
   * @throws SwarmError STORE_NEWER, STORE_OLDER, STORE_CORRUPT, STORE_REFUSED
   */
  constructor(source: string | Database) {
    this.#db = typeof source === 'string' ? new Database({ path: source, schema: SCHEMA }) : source;
    this.jobs = new JobTable(this.#db);
    this.keys = new KeyTable(this.#db);
    this.rounds = new RoundTable(this.#db);
    this.gaps = new GapTable(this.#db);
    this.updates = new UpdateTable(this.#db);
    this.conflicts = new ConflictTable(this.#db);
    this.scores = new ScoreTable(this.#db);
    this.strikes = new StrikeTable(this.#db);
    this.bans = new BanTable(this.#db);
    this.audits = new AuditTable(this.#db);
    this.tasks = new TaskTable(this.#db);
    this.samples = new SampleTable(this.#db);
    this.sweeps = new SweepTable(this.#db);
    this.webhooks = new WebhookQueue(this.#db);
    this.events = new EventTable(this.#db);
    this.peers = new PeerTable(this.#db);
    this.invites = new InviteTable(this.#db);
    this.blobs = new BlobTable(this.#db);
  }

  /** Runs `work` in a transaction: all its writes become durable, or none. */
  transaction<T>(work: () => T): T {
    return this.#db.transaction(work);
  }

  /**
   * Tests whether the database accepts writes, with a write that changes nothing.
   * @throws SwarmError if the database accepts no writes, for example STORE_FULL
   */
  probe(): void {
    this.#db.transaction(() => this.#db.run('UPDATE jobs SET term = term'));
  }

  close(): void {
    this.#db.close();
  }
}
