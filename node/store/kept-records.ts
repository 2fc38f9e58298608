import { type HeadOrder, isNewer } from '../../protocol/job/head-order.ts';
import { RECALLED_MESSAGES } from '../../protocol/limits.ts';
import type { Database } from '../../storage/database.ts';

/** Number of newest rounds of each job whose checkpoints and receipts a node keeps. */
export const KEPT_ROUNDS = 64;

/** Signed messages of a coordinator, as bytes, oldest first. */
export interface Recalled {
  readonly head: Uint8Array | null;
  readonly settings: readonly Uint8Array[];
  readonly checkpoints: readonly Uint8Array[];
  readonly receipts: readonly Uint8Array[];
  readonly removals: Uint8Array | null;
}

/**
 * The store of messages that the coordinator of a job has signed: its newest head, its newest checkpoints, the changes of
 * its settings, and the receipts of this node's updates. A coordinator that was restored from an old backup asks its nodes
 * for these messages, and `lora-swarm verify` checks them if the coordinator is gone.
 */
export class KeptRecords {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Stores a head if it is newer than the stored head. */
  keepHead(job: string, { term, sequence }: HeadOrder, envelope: Uint8Array): void {
    if (!isNewer({ term, sequence }, this.newestHead(job))) return;
    this.#db.run(
      'INSERT OR REPLACE INTO kept_heads (job, term, sequence, envelope) VALUES (?, ?, ?, ?)',
      job,
      term,
      sequence,
      envelope,
    );
  }

  /** Returns the term and sequence number of the stored head, which is the newest head that the node has seen. */
  newestHead(job: string): HeadOrder | null {
    const row = this.#db.one('SELECT term, sequence FROM kept_heads WHERE job = ?', job);
    return row && { term: Number(row.term), sequence: Number(row.sequence) };
  }

  /** Returns the number of the stored record of removals; 0 if there is none. */
  newestRemovals(job: string): number {
    return Number(this.#db.one('SELECT sequence FROM kept_removals WHERE job = ?', job)?.sequence ?? 0);
  }

  /** Stores a record of removals if it is newer than the stored record. */
  keepRemovals(job: string, { sequence, envelope }: { sequence: number; envelope: Uint8Array }): void {
    if (sequence <= this.newestRemovals(job)) return;
    const sql = 'INSERT OR REPLACE INTO kept_removals (job, sequence, envelope) VALUES (?, ?, ?)';
    this.#db.run(sql, job, sequence, envelope);
  }

  hasCheckpoint(job: string, digest: string): boolean {
    return this.#db.one('SELECT 1 FROM kept_checkpoints WHERE job = ? AND digest = ?', job, digest) !== null;
  }

  /** Stores a checkpoint. @param one `ordinal`: number of checkpoints before this one */
  keepCheckpoint(
    job: string,
    one: { round: number; ordinal: number; digest: string; envelope: Uint8Array },
  ): void {
    const sql = `INSERT OR REPLACE INTO kept_checkpoints (job, round, ordinal, digest, envelope)
      VALUES (?, ?, ?, ?, ?)`;
    this.#db.transaction(() => {
      this.#db.run(sql, job, one.round, one.ordinal, one.digest, one.envelope);
      this.#forgetOld('kept_checkpoints', job);
    });
  }

  /** Returns the kept checkpoint with number `ordinal`, or else the one with the next larger number. */
  checkpointFrom(
    job: string,
    ordinal: number,
  ): { ordinal: number; digest: string; envelope: Uint8Array } | null {
    // A coordinator that was restored from a backup gives the numbers of its lost checkpoints to new checkpoints of
    // later rounds. A checkpoint counts as lost if a checkpoint of a later round has the same or a smaller number. Skip
    // lost checkpoints.
    const sql = `SELECT ordinal, digest, envelope FROM kept_checkpoints AS one WHERE job = ? AND ordinal >= ?
      AND NOT EXISTS (SELECT 1 FROM kept_checkpoints AS other
        WHERE other.job = one.job AND other.ordinal <= one.ordinal AND other.round > one.round)
      ORDER BY ordinal LIMIT 1`;
    const row = this.#db.one(sql, job, ordinal);
    return (
      row && {
        ordinal: Number(row.ordinal),
        digest: String(row.digest),
        envelope: row.envelope as Uint8Array,
      }
    );
  }

  /**
   * Returns the newest kept checkpoint of the rounds before `before` whose parent is not kept, although an older checkpoint is
   * kept; null if there is none.
   */
  aboveGap(job: string, before: number): { round: number; ordinal: number; envelope: Uint8Array } | null {
    const sql = `SELECT round, ordinal, envelope FROM kept_checkpoints AS one
      WHERE job = ? AND round < ?
        AND EXISTS (SELECT 1 FROM kept_checkpoints AS older WHERE older.job = one.job AND older.round < one.round)
        AND NOT EXISTS (SELECT 1 FROM kept_checkpoints AS parent WHERE parent.job = one.job
          AND parent.round < one.round AND parent.ordinal = one.ordinal - 1)
      ORDER BY round DESC LIMIT 1`;
    const row = this.#db.one(sql, job, before);
    return (
      row && {
        round: Number(row.round),
        ordinal: Number(row.ordinal),
        envelope: row.envelope as Uint8Array,
      }
    );
  }

  /** Returns the signed form of the newest head. */
  head(job: string): Uint8Array | null {
    const row = this.#db.one('SELECT envelope FROM kept_heads WHERE job = ?', job);
    return (row?.envelope as Uint8Array | undefined) ?? null;
  }

  /** Returns the signed change of the settings with a digest. */
  settings(job: string, digest: string): Uint8Array | null {
    const sql = 'SELECT envelope FROM kept_settings WHERE job = ? AND digest = ?';
    return (this.#db.one(sql, job, digest)?.envelope as Uint8Array | undefined) ?? null;
  }

  /** Returns the signed receipt of this node's update with a digest. */
  receipt(job: string, update: string): Uint8Array | null {
    const sql = 'SELECT envelope FROM kept_receipts WHERE job = ? AND digest = ?';
    return (this.#db.one(sql, job, update)?.envelope as Uint8Array | undefined) ?? null;
  }

  /** Stores a receipt. A later receipt of the same round replaces an earlier receipt. */
  keepReceipt(job: string, one: { round: number; digest: string; envelope: Uint8Array }): void {
    const sql = 'INSERT OR REPLACE INTO kept_receipts (job, round, digest, envelope) VALUES (?, ?, ?, ?)';
    this.#db.transaction(() => {
      this.#db.run(sql, job, one.round, one.digest, one.envelope);
      this.#forgetOld('kept_receipts', job);
    });
  }

  /** Stores a signed change of the job's settings. */
  keepSettings(job: string, one: { sequence: number; digest: string; envelope: Uint8Array }): void {
    this.#db.transaction(() => {
      this.#db.run(
        'INSERT OR REPLACE INTO kept_settings (job, sequence, digest, envelope) VALUES (?, ?, ?, ?)',
        job,
        one.sequence,
        one.digest,
        one.envelope,
      );
      this.#db.run(
        `DELETE FROM kept_settings WHERE job = ? AND digest NOT IN
          (SELECT digest FROM kept_settings WHERE job = ? ORDER BY sequence DESC LIMIT ?)`,
        job,
        job,
        RECALLED_MESSAGES,
      );
    });
  }

  /**
   * Returns the newest head, the changes of the settings, the newest record of removals, and checkpoints and receipts of
   * rounds after `after`: at most `maxBytes` in total.
   */
  recall(job: string, { after, maxBytes }: { after: number; maxBytes: number }): Recalled {
    const head = this.head(job);
    const settings = this.#db
      .all('SELECT envelope FROM kept_settings WHERE job = ? ORDER BY sequence', job)
      .map(({ envelope }) => envelope as Uint8Array);
    const kept = this.#db.one('SELECT envelope FROM kept_removals WHERE job = ?', job);
    const removals = (kept?.envelope as Uint8Array | undefined) ?? null;
    let bytes = [head, removals, ...settings].reduce((sum, one) => sum + (one?.byteLength ?? 0), 0);
    const newest = (table: Table): Uint8Array[] => {
      const sql = `SELECT envelope FROM ${table} WHERE job = ? AND round > ? ORDER BY round DESC`;
      const all = this.#db.all(sql, job, after).map(({ envelope }) => envelope as Uint8Array);
      const fitting = all.filter((envelope) => {
        bytes += envelope.byteLength;
        return bytes <= maxBytes;
      });
      return fitting.reverse();
    };
    const checkpoints = newest('kept_checkpoints');
    return { head, settings, checkpoints, receipts: newest('kept_receipts'), removals };
  }

  #forgetOld(table: Table, job: string): void {
    this.#db.run(
      `DELETE FROM ${table} WHERE job = ? AND round <= (SELECT max(round) FROM ${table} WHERE job = ?) - ?`,
      job,
      job,
      KEPT_ROUNDS,
    );
  }
}

type Table = 'kept_checkpoints' | 'kept_receipts';
