import type { Database } from '../../storage/database.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';
import type { UpdateKey } from './update-key.ts';

/**
 * State of an audit:
 * `held`     the audit is too expensive now, but may be chosen later
 * `chosen`   the audit waits or is in progress
 * `passed`, `failed`   the audit has this result
 * `dropped`  the audit ended without a result; see `reason`
 */
export type AuditState = 'held' | 'chosen' | 'passed' | 'failed' | 'dropped';

/** The audit of one update. */
export interface StoredAudit {
  readonly peer: string;
  /** The round in which the update was trained. */
  readonly round: number;
  readonly state: AuditState;
  /** The random number that decides the draw. The update with the greatest key is chosen first. */
  readonly key: number;
  /** The round whose merge included the update. */
  readonly mergeRound: number;
  /** The round at whose end the audit was chosen; null if the audit has not been chosen. */
  readonly chosenRound: number | null;
  /**
   * The round that was the newest when the result began to count; null if it does not count yet. A failed audit counts
   * from the merge of this round on.
   */
  readonly decidedRound: number | null;
  /** Number of rows on which one attempt trains. */
  readonly rows: number;
  /** Number of attempts to train the interval again. A restart of the coordinator ends a running attempt. */
  readonly attempts: number;
  /**
   * Cosine of the angle between the update and the change that the audit computed; null if the audit has no
   * result.
   */
  readonly closeness: number | null;
  /** Balance of the update (see lora/update/score.ts); null if the audit has no result. */
  readonly balance: number | null;
  /** Duration of the last attempt in seconds; null if there was none. */
  readonly seconds: number | null;
  /** Reason why the audit was dropped; empty in any other state. */
  readonly reason: string;
}

/** Final state of an audit, with its figures. */
export type AuditResult = Pick<StoredAudit, 'state' | 'closeness' | 'balance' | 'seconds' | 'reason'>;

/**
 * The random bytes that were drawn at the end of a round, and the number of rows that the job had trained on
 * by then.
 */
export interface AuditDraw {
  readonly round: number;
  readonly seed: Uint8Array;
  /** Number of rows of all merged updates of the job, up to this round. */
  readonly trained: number;
}

/** Audits of updates, and the draws that chose them. */
export class AuditTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  putDraw(job: string, draw: AuditDraw): void {
    insertInto(this.#db, 'audit_draws', { job, ...draw });
  }

  /** Returns the draw of audits at the end of a round; null if there was none. */
  draw(job: string, round: number): AuditDraw | null {
    const row = this.#db.one('SELECT * FROM audit_draws WHERE job = ? AND round = ?', job, round);
    return row && fromRow(row);
  }

  newestDraw(job: string): AuditDraw | null {
    const row = this.#db.one('SELECT * FROM audit_draws WHERE job = ? ORDER BY round DESC LIMIT 1', job);
    return row && fromRow(row);
  }

  put(job: string, audit: Pick<StoredAudit, 'peer' | 'round' | 'key' | 'mergeRound' | 'rows'>): void {
    insertInto(this.#db, 'audits', { job, ...audit, state: 'held' });
  }

  /** Deletes an audit in the state `held`. */
  remove(job: string, { peer, round }: UpdateKey): void {
    this.#db.run('DELETE FROM audits WHERE job = ? AND round = ? AND peer = ?', job, round, peer);
  }

  /** Deletes the audits of updates of all rounds after `round`. */
  forgetAfter(job: string, round: number): void {
    this.#db.run('DELETE FROM audits WHERE job = ? AND (round > ? OR merge_round > ?)', job, round, round);
  }

  choose(job: string, { peer, round }: UpdateKey, chosenRound: number): void {
    updateRows(this.#db, 'audits', { job, round, peer }, { state: 'chosen', chosenRound });
  }

  /** Counts an attempt, before it starts. */
  countAttempt(job: string, { peer, round }: UpdateKey): void {
    const sql = 'UPDATE audits SET attempts = attempts + 1 WHERE job = ? AND round = ? AND peer = ?';
    this.#db.run(sql, job, round, peer);
  }

  /** Records the result of an audit. */
  finish(
    job: string,
    { peer, round }: UpdateKey,
    result: AuditResult & { decidedRound: number | null },
  ): void {
    updateRows(this.#db, 'audits', { job, round, peer }, { ...result });
  }

  /** Records that a failed audit counts, because the coordinator's own results can be trusted (see `isTrusted`). */
  decide(job: string, { peer, round }: UpdateKey, decidedRound: number): void {
    updateRows(this.#db, 'audits', { job, round, peer }, { decidedRound });
  }

  /** Returns the audits that have a result, oldest round first. */
  results(job: string): StoredAudit[] {
    return this.#db
      .all(`SELECT * FROM audits WHERE job = ? AND state IN ('passed', 'failed') ORDER BY round, peer`, job)
      .map((row) => fromRow(row));
  }

  find(job: string, { peer, round }: UpdateKey): StoredAudit | null {
    const sql = 'SELECT * FROM audits WHERE job = ? AND round = ? AND peer = ?';
    const row = this.#db.one(sql, job, round, peer);
    return row && fromRow(row);
  }

  /** Returns the audits in a state, in the order in which they were chosen. */
  inState(job: string, state: AuditState): StoredAudit[] {
    return this.#db
      .all(
        `SELECT * FROM audits WHERE job = ? AND state = ? ORDER BY chosen_round, key DESC, round, peer`,
        job,
        state,
      )
      .map((row) => fromRow(row));
  }

  /** Returns the audits of the updates of a merge, sorted by peer and round. */
  ofMerge(job: string, mergeRound: number): StoredAudit[] {
    return this.#db
      .all('SELECT * FROM audits WHERE job = ? AND merge_round = ? ORDER BY peer, round', job, mergeRound)
      .map((row) => fromRow(row));
  }

  /** Returns the number of rows of all attempts so far, plus the rows of chosen audits without an attempt yet. */
  spent(job: string): number {
    const row = this.#db.one(
      `SELECT coalesce(sum(rows * max(attempts, CASE state WHEN 'chosen' THEN 1 ELSE 0 END)), 0) AS rows
       FROM audits WHERE job = ?`,
      job,
    );
    return row!.rows as number;
  }
}
