import { DatabaseSync } from 'node:sqlite';
import type { Preset } from '../lora/update/presets.ts';
import type { LooseBlobs } from '../net/vault.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { ReceiptCode } from '../protocol/receipts.ts';
import { Holdings } from './holdings.ts';
import type { Outcome } from './pending.ts';
import { Sql, text } from './sql.ts';
import type { Remembered } from './state.ts';
import { openSchema } from './store-schema.ts';

/** What a node keeps of a job besides its updates. Digests name blobs in the blob store. */
export interface JobRecord {
  readonly job: string;
  /** The encoded error feedback, and the round whose change was the last to enter it. */
  readonly feedback: string | null;
  readonly feedbackRound: number;
  /** Moments of AdamW after that round. */
  readonly optimizer: string | null;
  /** The newest adapter that was fetched, and the checkpoint it belongs to. */
  readonly checkpoint: string | null;
  readonly adapter: string | null;
  readonly adapterBytes: number;
  readonly tokensPerSecond: number;
}

/** An update that was made, and what became of it. There is never a second one for its job and round. */
export interface UpdateRecord {
  readonly job: string;
  readonly round: number;
  /** Digest of the payload, which is a blob until the update is settled. */
  readonly update: string;
  readonly bytes: number;
  readonly preset: Preset;
  /** The signed message as it was first sent; null once the update has ended. */
  readonly envelope: Uint8Array<ArrayBuffer> | null;
  readonly outcome: Outcome | null;
  readonly code: ReceiptCode | null;
  readonly detail: string;
  readonly at: number;
}

export interface SealedUpdate {
  readonly update: Omit<UpdateRecord, 'envelope' | 'outcome' | 'code' | 'detail'> & {
    readonly envelope: Uint8Array<ArrayBuffer>;
  };
  readonly feedback: string;
  readonly optimizer: string;
  readonly tokensPerSecond: number;
}

/**
 * A node's memory: one SQLite database, each method one durable transaction. Large values are blobs; the database
 * holds their digests. A blob that no row names (any more, or yet) is listed as loose before it is written and after
 * it is replaced, so that a crash at any point leaves nothing behind for ever.
 */
export class NodeStore implements LooseBlobs {
  /** Base and data of the jobs. */
  readonly holdings: Holdings;
  readonly #database: DatabaseSync;
  readonly #sql: Sql;

  /** @throws SwarmError STORE_NEWER when a newer release has written the database */
  constructor(database: DatabaseSync) {
    this.#database = database;
    openSchema(database);
    this.#sql = new Sql(database);
    this.holdings = new Holdings(this.#sql);
  }

  static open(path: string): NodeStore {
    return new NodeStore(new DatabaseSync(path));
  }

  /** Writes without changing anything. @throws what SQLite says when the store takes no writes */
  probe(): void {
    this.#sql.write(() => this.#sql.prepare('UPDATE jobs SET adapter_bytes = adapter_bytes').run());
  }

  close(): void {
    this.#database.close();
  }

  job(job: string): JobRecord {
    const row = this.#sql.prepare('SELECT * FROM jobs WHERE job = ?').get(job);
    return {
      job,
      feedback: text(row?.feedback),
      feedbackRound: Number(row?.feedback_round ?? 0),
      optimizer: text(row?.optimizer),
      checkpoint: text(row?.checkpoint),
      adapter: text(row?.adapter),
      adapterBytes: Number(row?.adapter_bytes ?? 0),
      tokensPerSecond: Number(row?.tokens_per_second ?? 0),
    };
  }

  remembered(job: string): Remembered {
    const rows = this.#sql
      .prepare('SELECT round, digest, outcome, code FROM updates WHERE job = ? ORDER BY round')
      .all(job);
    return {
      lastRound: Number(rows.at(-1)?.round ?? 0),
      pending: rows
        .filter(({ outcome }) => outcome === null)
        .map((row) => ({
          round: Number(row.round),
          update: String(row.digest),
          code: text(row.code) as ReceiptCode | null,
        })),
    };
  }

  /** Records the adapter that the node now holds. */
  saveAdapter(job: string, held: { checkpoint: string; digest: string; bytes: number }): void {
    this.#sql.write(() => {
      const { adapter } = this.job(job);
      this.#sql.ensureJob(job);
      this.#sql
        .prepare('UPDATE jobs SET checkpoint = ?, adapter = ?, adapter_bytes = ? WHERE job = ?')
        .run(held.checkpoint, held.digest, held.bytes, job);
      this.#sql.loosen(adapter);
    });
  }

  /**
   * Stores an update together with the error feedback and the optimiser's moments that go with it: after a restart
   * either all of them are there or none.
   * @throws SwarmError UPDATE_EXISTS when the round already has an update
   */
  saveUpdate({ update, feedback, optimizer, tokensPerSecond }: SealedUpdate): void {
    const { job, round } = update;
    this.#sql.write(() => {
      const taken = this.#sql
        .prepare('SELECT digest FROM updates WHERE job = ? AND round = ?')
        .get(job, round);
      if (taken) {
        throw new SwarmError('UPDATE_EXISTS', `round ${round} already has the update ${taken.digest}`, {
          job,
          round,
        });
      }
      const before = this.job(job);
      this.#sql.ensureJob(job);
      this.#sql
        .prepare(
          `INSERT INTO updates (job, round, digest, bytes, preset, envelope, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(job, round, update.update, update.bytes, update.preset, update.envelope, update.at);
      this.#sql
        .prepare(
          `UPDATE jobs SET feedback = ?, feedback_round = ?, optimizer = ?, tokens_per_second = ? WHERE job = ?`,
        )
        .run(feedback, round, optimizer, tokensPerSecond, job);
      this.#sql.loosen(before.feedback, before.optimizer);
    });
  }

  update(job: string, round: number): UpdateRecord | null {
    const row = this.#sql.prepare('SELECT * FROM updates WHERE job = ? AND round = ?').get(job, round);
    return row ? updateRecord(row) : null;
  }

  /** Newest first. */
  updates(limit: number): UpdateRecord[] {
    return this.#sql
      .prepare('SELECT * FROM updates ORDER BY at DESC, round DESC LIMIT ?')
      .all(limit)
      .map(updateRecord);
  }

  /** Keeps the newest receipt of an update, for people and for the next start. */
  saveReceipt(job: string, round: number, receipt: { code: ReceiptCode; detail: string }): void {
    this.#sql
      .prepare('UPDATE updates SET code = ?, detail = ? WHERE job = ? AND round = ?')
      .run(receipt.code, receipt.detail, job, round);
  }

  /**
   * Ends an update. With `restored` comes the error feedback into which it was put back.
   * @returns false when it had ended before: then nothing was changed
   */
  settle(job: string, round: number, settled: { outcome: Outcome; feedback: string | null }): boolean {
    return this.#sql.write(() => {
      const row = this.#sql
        .prepare('SELECT digest, outcome FROM updates WHERE job = ? AND round = ?')
        .get(job, round);
      if (!row || row.outcome !== null) return false;
      this.#sql
        .prepare("UPDATE updates SET outcome = ?, envelope = x'' WHERE job = ? AND round = ?")
        .run(settled.outcome, job, round);
      this.#sql.loosen(text(row.digest));
      if (settled.feedback !== null) {
        const { feedback } = this.job(job);
        this.#sql.prepare('UPDATE jobs SET feedback = ? WHERE job = ?').run(settled.feedback, job);
        this.#sql.loosen(feedback);
      }
      return true;
    });
  }

  /** Lists a blob that is about to be written, before a row names it. */
  loosen(digest: string): void {
    this.#sql.write(() => this.#sql.loosen(digest));
  }

  /** Listed blobs that no row names. */
  unused(): string[] {
    return this.#sql
      .prepare(UNUSED)
      .all()
      .map(({ digest }) => String(digest));
  }

  isUnused(digest: string): boolean {
    return this.#sql.prepare(`${UNUSED} AND digest = ?`).get(digest) !== undefined;
  }

  /** Takes a blob that has been deleted off the list. */
  forget(digest: string): void {
    this.#sql.prepare('DELETE FROM loose WHERE digest = ?').run(digest);
  }

  /** Whether this home has been told something before; says so from now on. */
  firstTime(notice: string): boolean {
    return this.#sql.prepare('INSERT OR IGNORE INTO notices (name) VALUES (?)').run(notice).changes === 1;
  }
}

const UNUSED = `SELECT digest FROM loose WHERE
  NOT EXISTS (SELECT 1 FROM jobs WHERE loose.digest IN (jobs.feedback, jobs.optimizer, jobs.adapter))
  AND NOT EXISTS (SELECT 1 FROM job_blobs WHERE job_blobs.digest = loose.digest)
  AND NOT EXISTS (SELECT 1 FROM updates WHERE updates.digest = loose.digest AND updates.outcome IS NULL)`;

type Row = Record<string, unknown>;

function updateRecord(row: Row): UpdateRecord {
  const envelope = row.envelope as Uint8Array<ArrayBuffer>;
  return {
    job: String(row.job),
    round: Number(row.round),
    update: String(row.digest),
    bytes: Number(row.bytes),
    preset: row.preset as Preset,
    envelope: envelope.byteLength > 0 ? envelope : null,
    outcome: text(row.outcome) as Outcome | null,
    code: text(row.code) as ReceiptCode | null,
    detail: String(row.detail),
    at: Number(row.at),
  };
}
