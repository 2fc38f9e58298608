import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { Database, Row } from '../../storage/database.ts';
import type { Preset } from '../round/plan.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';
import type { UpdateKey } from './update-key.ts';

/** Fate of an accepted update. It is `open` until the merge of the update has ended. */
export type Fate = 'open' | 'merged' | 'left-out' | 'null-round' | 'outlier';

export interface StoredUpdate {
  readonly round: number;
  readonly peer: string;
  readonly digest: string;
  readonly size: number;
  readonly preset: Preset;
  readonly tokens: number;
  readonly lossLast: number;
  readonly evidence: Uint8Array;
  readonly arrivedAt: number;
  readonly late: boolean;
  /** The closed round whose merge takes the update; null if no merge has taken it yet. */
  readonly mergeRound: number | null;
  readonly fate: Fate;
}

export interface StoredReceipt {
  readonly term: number;
  readonly round: number;
  readonly peer: string;
  readonly digest: string;
  readonly code: ReceiptCode;
  readonly detail: string;
  readonly issuedAt: number;
}

/**
 * Columns of a receipt. A receipt is signed with exactly these fields, so a query for a receipt must read no other
 * column.
 */
const RECEIPT = 'term, round, peer, digest, code, detail, issued_at';

/** The table of accepted updates and the table of all receipts. */
export class UpdateTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: string, update: Omit<StoredUpdate, 'mergeRound' | 'fate'>): void {
    insertInto(this.#db, 'updates', { job, ...update, late: update.late ? 1 : 0 });
  }

  remove(job: string, round: number, peer: string): void {
    this.#db.run('DELETE FROM updates WHERE job = ? AND round = ? AND peer = ?', job, round, peer);
  }

  /** Deletes the updates of all rounds after `round`. Their receipts stay. */
  forgetAfter(job: string, round: number): void {
    this.#db.run('DELETE FROM updates WHERE job = ? AND round > ?', job, round);
  }

  /**
   * Frees the updates that unfinished merges of rounds after `round` have selected, so that other merges can take them.
   */
  unselectAfter(job: string, round: number): void {
    this.#db.run(
      `UPDATE updates SET merge_round = NULL WHERE job = ? AND merge_round > ? AND fate = 'open'`,
      job,
      round,
    );
  }

  find(job: string, round: number, peer: string): StoredUpdate | null {
    const sql = 'SELECT * FROM updates WHERE job = ? AND round = ? AND peer = ?';
    const row = this.#db.one(sql, job, round, peer);
    return row && readUpdate(row);
  }

  /**
   * Returns the number of rounds before `round` for which the coordinator recorded a receipt, accepted or refused, of
   * an update of the peer.
   */
  roundsBefore(job: string, peer: string, round: number): number {
    const sql = 'SELECT count(DISTINCT round) AS n FROM receipts WHERE job = ? AND peer = ? AND round < ?';
    const row = this.#db.one(sql, job, peer, round);
    return row!.n as number;
  }

  /** Returns the updates of the rounds `first` to `last`, sorted by round and peer. */
  ofRounds(job: string, first: number, last: number): StoredUpdate[] {
    const sql = 'SELECT * FROM updates WHERE job = ? AND round BETWEEN ? AND ? ORDER BY round, peer';
    return this.#db.all(sql, job, first, last).map(readUpdate);
  }

  /**
   * Selects the updates that a closing round merges: its own updates, and late updates of the rounds from `oldest` on
   * that no merge has taken. If there are more than `limit` updates, selects the updates of the newest rounds.
   */
  select(job: string, round: number, oldest: number, limit: number): void {
    this.#db.run(
      `UPDATE updates SET merge_round = ? WHERE job = ? AND (round, peer) IN (
         SELECT round, peer FROM updates
         WHERE job = ? AND round BETWEEN ? AND ? AND fate = 'open' AND merge_round IS NULL
         ORDER BY round DESC, peer LIMIT ?)`,
      round,
      job,
      job,
      oldest,
      round,
      limit,
    );
  }

  /**
   * Returns updates that no merge has refused. For each peer, these are all updates that wait for the end of their
   * merge, and the newest update that was merged or whose round became a null round.
   */
  deliveries(job: string): UpdateKey[] {
    return this.#db
      .all(
        `SELECT peer, max(round) AS round FROM updates
         WHERE job = ? AND fate IN ('merged', 'null-round') GROUP BY peer
         UNION ALL SELECT peer, round FROM updates WHERE job = ? AND fate = 'open'`,
        job,
        job,
      )
      .map(({ peer, round }) => ({ peer: peer as string, round: round as number }));
  }

  /** Returns the updates that `select` chose for a round, sorted by peer and round, which is the order of the merge. */
  selected(job: string, round: number): StoredUpdate[] {
    return this.#db
      .all(
        // SQLite has no statistics about this table. Without INDEXED BY, it would read all updates of the job.
        `SELECT * FROM updates INDEXED BY updates_by_merge
         WHERE job = ? AND merge_round = ? ORDER BY peer, round`,
        job,
        round,
      )
      .map(readUpdate);
  }

  /** Returns the updates of rounds up to `last` that no merge has taken. */
  unclaimed(job: string, last: number): StoredUpdate[] {
    return this.#db
      .all(
        `SELECT * FROM updates INDEXED BY updates_unclaimed
         WHERE job = ? AND round <= ? AND fate = 'open' AND merge_round IS NULL
         ORDER BY round, peer`,
        job,
        last,
      )
      .map(readUpdate);
  }

  /** Returns the updates of a peer that no merge has taken yet, in the order of their rounds. */
  waitingOf(job: string, peer: string): StoredUpdate[] {
    return this.#db
      .all(
        `SELECT * FROM updates INDEXED BY updates_unclaimed
         WHERE job = ? AND peer = ? AND fate = 'open' AND merge_round IS NULL ORDER BY round`,
        job,
        peer,
      )
      .map(readUpdate);
  }

  setFate(job: string, round: number, peer: string, fate: Fate): void {
    updateRows(this.#db, 'updates', { job, round, peer }, { fate });
  }

  addReceipt(job: string, receipt: StoredReceipt): void {
    insertInto(this.#db, 'receipts', { job, ...receipt });
  }

  /** Returns the newest receipt of a peer's update; null if there is none. */
  receipt(job: string, peer: string, digest: string): StoredReceipt | null {
    const sql = `SELECT ${RECEIPT} FROM receipts WHERE job = ? AND peer = ? AND digest = ? ORDER BY id DESC LIMIT 1`;
    const row = this.#db.one(sql, job, peer, digest);
    return row && fromRow(row);
  }

  /** Returns whether an update of a peer with this payload has ever been accepted. */
  hasSent(job: string, peer: string, digest: string): boolean {
    const row = this.#db.one(
      `SELECT 1 FROM receipts WHERE job = ? AND peer = ? AND digest = ? AND code IN ('accepted', 'late') LIMIT 1`,
      job,
      peer,
      digest,
    );
    return row !== null;
  }

  /** Returns a peer's receipts, newest first. */
  receipts(job: string, peer: string, limit: number): StoredReceipt[] {
    const sql = `SELECT ${RECEIPT} FROM receipts WHERE job = ? AND peer = ? ORDER BY id DESC LIMIT ?`;
    return this.#db.all(sql, job, peer, limit).map((row) => fromRow(row));
  }

  /** Returns the number of receipts for each peer and code. @param peer the only peer; null for all peers */
  receiptCounts(
    job: string,
    peer: string | null = null,
  ): { peer: string; code: ReceiptCode; count: number }[] {
    const where = peer === null ? 'job = ?' : 'job = ? AND peer = ?';
    return this.#db
      .all(
        `SELECT peer, code, count(*) AS n FROM receipts WHERE ${where} GROUP BY peer, code`,
        ...(peer === null ? [job] : [job, peer]),
      )
      .map((row) => ({ peer: row.peer as string, code: row.code as ReceiptCode, count: row.n as number }));
  }
}

function readUpdate(row: Row): StoredUpdate {
  return { ...fromRow<StoredUpdate>(row), late: row.late === 1 };
}
