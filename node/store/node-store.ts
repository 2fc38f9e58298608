import type { Outcome } from '../../protocol/api/node.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { UnusedBlobs } from '../../storage/blob-collector.ts';
import { Database } from '../../storage/database.ts';
import { nodeError } from '../errors.ts';
import type { JobHistory } from '../machine/state.ts';
import { BlobOrigins } from './blob-origins.ts';
import { JobFiles } from './job-files.ts';
import { KeptJobs } from './kept-jobs.ts';
import { KeptMerges } from './kept-merges.ts';
import { KeptRecords } from './kept-records.ts';
import { SCHEMA } from './schema.ts';
import { ensureJob, markUnused } from './statements.ts';
import { IS_OWN, Totals } from './totals.ts';
import { text, type UpdateRecord, updateRecord } from './update-record.ts';

/** A job's stored state without its updates. Digests name blobs in the blob store. */
export interface JobRecord {
  readonly job: string;
  /** Peer id of the coordinator; null before the node has joined the job. */
  readonly coordinator: string | null;
  /** Digest of the encoded error feedback after the round `feedbackRound`. */
  readonly feedback: string | null;
  readonly feedbackRound: number;
  /** Digest of AdamW's encoded moments after the round `feedbackRound`. */
  readonly optimizer: string | null;
  /** Digest of the checkpoint that `adapter` belongs to. */
  readonly checkpoint: string | null;
  /** Digest of the newest adapter that the node has had. */
  readonly adapter: string | null;
  readonly adapterBytes: number;
  readonly tokensPerSecond: number;
}

/** An update to be stored, with the state that the next round continues from. */
export interface BuiltUpdate {
  readonly update: Omit<UpdateRecord, 'envelope' | 'outcome' | 'code' | 'detail'> & {
    readonly envelope: Uint8Array<ArrayBuffer>;
  };
  readonly feedback: string;
  readonly optimizer: string;
  readonly tokensPerSecond: number;
  /** Number of supervised tokens that the update was trained on, and the training time in seconds. */
  readonly work: { readonly tokens: number; readonly seconds: number };
}

/**
 * A node's SQLite database. Each method is one durable transaction. Large values are blobs, and the database holds
 * their digests. The table `loose` lists the blobs that may be unneeded: new blobs before they are written, and old
 * blobs after they are replaced. Even after a crash, the garbage collection therefore finds them.
 */
export class NodeStore implements UnusedBlobs {
  /** Base and data of the jobs. */
  readonly jobFiles: JobFiles;
  /** Totals of this home: work and traffic. */
  readonly totals: Totals;
  /** The coordinators that supplied each blob. They decide in which jobs the node uses and serves the blob. */
  readonly origins: BlobOrigins;
  /** Messages that the coordinators have signed. */
  readonly kept: KeptRecords;
  /** Records that the witness of the node has checked. */
  readonly keptMerges: KeptMerges;
  /** Manifests and keys of the jobs that the node has joined. */
  readonly keptJobs: KeptJobs;
  readonly #db: Database;

  /** @param db database with the tables of `SCHEMA` */
  constructor(db: Database) {
    this.#db = db;
    this.jobFiles = new JobFiles(db);
    this.totals = new Totals(db);
    this.origins = new BlobOrigins(db);
    this.kept = new KeptRecords(db);
    this.keptJobs = new KeptJobs(db);
    this.keptMerges = new KeptMerges(db);
  }

  /** @throws SwarmError STORE_NEWER, STORE_OLDER (another release wrote the file), STORE_CORRUPT, STORE_REFUSED */
  static open(path: string): NodeStore {
    return new NodeStore(new Database({ path, schema: SCHEMA }));
  }

  /**
   * Opens the database of a node, which may be running, without changing it. Only methods that read may be called.
   * @throws SwarmError STORE_NEWER, STORE_OLDER, STORE_CORRUPT, STORE_REFUSED (the file is missing)
   */
  static read(path: string): NodeStore {
    return new NodeStore(new Database({ path, schema: SCHEMA, readOnly: true }));
  }

  /**
   * Checks that the database can be written, with a write that changes nothing.
   * @throws SwarmError STORE_* if it cannot
   */
  probe(): void {
    this.#db.run('UPDATE jobs SET adapter_bytes = adapter_bytes');
  }

  close(): void {
    this.#db.close();
  }

  /**
   * Sets the peer id of the home's key. If the home had another key before, its updates remain in the database, but no
   * longer count as work of this node.
   */
  setKey(peer: string): void {
    this.#db.transaction(() => {
      const before = text(this.#db.one('SELECT peer FROM present_key')?.peer);
      if (before === peer) return;
      this.#db.run('DELETE FROM present_key');
      this.#db.run('INSERT INTO present_key (peer) VALUES (?)', peer);
      if (before !== null) this.totals.forgetContributions();
    });
  }

  job(job: string): JobRecord {
    const row = this.#db.one('SELECT * FROM jobs WHERE job = ?', job);
    return {
      job,
      coordinator: text(row?.coordinator),
      feedback: text(row?.feedback),
      feedbackRound: Number(row?.feedback_round ?? 0),
      optimizer: text(row?.optimizer),
      checkpoint: text(row?.checkpoint),
      adapter: text(row?.adapter),
      adapterBytes: Number(row?.adapter_bytes ?? 0),
      tokensPerSecond: Number(row?.tokens_per_second ?? 0),
    };
  }

  /**
   * Returns the newest round for which this home has an update, and the job's updates of the present key that have no
   * outcome yet. The state machine continues from them after a restart.
   */
  history(job: string): JobHistory {
    const rows = this.#db.all(
      `SELECT round, digest, outcome, code, ${IS_OWN} AS own FROM updates WHERE job = ? ORDER BY round`,
      job,
    );
    return {
      lastRound: Number(rows.at(-1)?.round ?? 0),
      pending: rows
        .filter(({ outcome, own }) => outcome === null && own === 1)
        .map((row) => ({
          round: Number(row.round),
          update: String(row.digest),
          code: text(row.code) as ReceiptCode | null,
        })),
    };
  }

  /** Records the adapter that the node holds now. */
  saveAdapter(job: string, held: { checkpoint: string; digest: string; bytes: number }): void {
    this.#db.transaction(() => {
      const { adapter } = this.job(job);
      ensureJob(this.#db, job);
      this.#db.run(
        'UPDATE jobs SET checkpoint = ?, adapter = ?, adapter_bytes = ? WHERE job = ?',
        held.checkpoint,
        held.digest,
        held.bytes,
        job,
      );
      markUnused(this.#db, adapter);
    });
  }

  /**
   * Stores an update, the error feedback and the optimiser's moments: all of them or none.
   * @throws SwarmError UPDATE_EXISTS if the round already has an update
   */
  saveUpdate({ update, feedback, optimizer, tokensPerSecond, work }: BuiltUpdate): void {
    const { job, round } = update;
    this.#db.transaction(() => {
      const taken = this.#db.one('SELECT digest FROM updates WHERE job = ? AND round = ?', job, round);
      if (taken) {
        throw nodeError('UPDATE_EXISTS', `round ${round} already has the update ${taken.digest}`, {
          job,
          round,
        });
      }
      const before = this.job(job);
      ensureJob(this.#db, job);
      this.#db.run(
        `INSERT INTO updates (job, round, digest, bytes, preset, envelope, at, tokens, seconds, peer)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT peer FROM present_key))`,
        job,
        round,
        update.update,
        update.bytes,
        update.preset,
        update.envelope,
        update.at,
        work.tokens,
        work.seconds,
      );
      this.#db.run(
        'UPDATE jobs SET feedback = ?, feedback_round = ?, optimizer = ?, tokens_per_second = ? WHERE job = ?',
        feedback,
        round,
        optimizer,
        tokensPerSecond,
        job,
      );
      markUnused(this.#db, before.feedback, before.optimizer);
    });
  }

  update(job: string, round: number): UpdateRecord | null {
    const row = this.#db.one('SELECT * FROM updates WHERE job = ? AND round = ?', job, round);
    return row && updateRecord(row);
  }

  /**
   * Returns the newest updates of the present key in all jobs, newest first. Their times do not decide the order, because the
   * clock of the machine may have been wrong for a while.
   */
  updates(limit: number): UpdateRecord[] {
    return this.#db
      .all(`SELECT * FROM updates WHERE ${IS_OWN} ORDER BY rowid DESC LIMIT ?`, limit)
      .map(updateRecord);
  }

  /** Stores the newest receipt of an update, for the status and for the next start. */
  saveReceipt(job: string, round: number, receipt: { code: ReceiptCode; detail: string }): void {
    this.#db.run(
      'UPDATE updates SET code = ?, detail = ? WHERE job = ? AND round = ?',
      receipt.code,
      receipt.detail,
      job,
      round,
    );
  }

  /**
   * Records an update's outcome. If the update did not count and was added back to the error feedback, `feedback` is
   * the digest of this error feedback.
   * @returns false if the outcome was already recorded. In this case nothing changes.
   */
  settle(job: string, round: number, settled: { outcome: Outcome; feedback: string | null }): boolean {
    return this.#db.transaction(() => {
      const row = this.#db.one('SELECT digest, outcome FROM updates WHERE job = ? AND round = ?', job, round);
      if (!row || row.outcome !== null) return false;
      this.#db.run(
        "UPDATE updates SET outcome = ?, envelope = x'' WHERE job = ? AND round = ?",
        settled.outcome,
        job,
        round,
      );
      markUnused(this.#db, row.digest);
      if (settled.feedback !== null) {
        const { feedback } = this.job(job);
        this.#db.run('UPDATE jobs SET feedback = ? WHERE job = ?', settled.feedback, job);
        markUnused(this.#db, feedback);
      }
      return true;
    });
  }

  /** Adds a blob to the table `loose` of unneeded blobs, before the blob is written and before any row names it. */
  markUnused(digest: string): void {
    markUnused(this.#db, digest);
  }

  /** Returns the blobs in the table `loose` that no row of another table refers to. */
  unused(): string[] {
    return this.#db.all(UNUSED).map(({ digest }) => String(digest));
  }

  isUnused(digest: string): boolean {
    return this.#db.one(`${UNUSED} AND digest = ?`, digest) !== null;
  }

  /** Removes a deleted blob from the table `loose`, which lists blobs that may be unneeded. */
  forget(digest: string): void {
    this.origins.forget(digest);
    this.#db.run('DELETE FROM loose WHERE digest = ?', digest);
  }

  /** Records that a notice has been shown. @returns true if this home had not shown the notice before */
  firstTime(notice: string): boolean {
    return this.#db.run('INSERT OR IGNORE INTO notices (name) VALUES (?)', notice) === 1;
  }
}

const UNUSED = `SELECT digest FROM loose WHERE
  NOT EXISTS (SELECT 1 FROM jobs WHERE loose.digest IN (jobs.feedback, jobs.optimizer, jobs.adapter))
  AND NOT EXISTS (SELECT 1 FROM job_blobs WHERE job_blobs.digest = loose.digest)
  AND NOT EXISTS (SELECT 1 FROM updates WHERE updates.digest = loose.digest AND updates.outcome IS NULL)`;
