import type { Database, Row } from '../../storage/database.ts';
import type { Assignment, Preset } from '../round/plan.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';

export interface StoredRound {
  readonly round: number;
  readonly parent: string;
  readonly preset: Preset;
  readonly assignments: readonly Assignment[];
  readonly deadlineMs: number;
  readonly openedAt: number;
  readonly closedAt: number | null;
  readonly outcome: RoundOutcome | null;
}

/** Facts about a round. The updates of the round are checked against these facts. */
export type RoundFacts = Pick<StoredRound, 'round' | 'parent' | 'preset' | 'openedAt' | 'assignments'>;

/**
 * Outcome of a round. `refused`: the gate refused the merge. `short`: there were too few updates. Both are
 * null rounds.
 */
export type RoundOutcome = 'checkpoint' | 'refused' | 'short';

export interface NewCheckpoint {
  readonly round: number;
  readonly digest: string;
  /** Signed checkpoint. */
  readonly envelope: Uint8Array;
  /** Digest of the blob with the part of the adapter that the published deltas left out; null if there is none. */
  readonly residual: string | null;
  readonly heldOutLoss: number | null;
  /** Round of the checkpoint whose adapter this roll-back restored; null if this checkpoint is not a roll-back. */
  readonly restores: number | null;
}

/** State of a checkpoint's weights. `leaving`: released, but still in the checkpoint's folder; `gone`: deleted. */
export type Weights = 'held' | 'leaving' | 'gone';

export type StoredCheckpoint = NewCheckpoint & {
  readonly weights: Weights;
  /** Why a roll-back restored its checkpoint; null if the reason is not known, or this checkpoint is not a roll-back. */
  readonly restoreReason: string | null;
};

/** A checkpoint whose weights are kept. */
export interface HeldCheckpoint {
  readonly round: number;
  /** Number of checkpoints of the job before this checkpoint. */
  readonly ordinal: number;
}

/** Rounds and their checkpoints. */
export class RoundTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  open(job: string, round: Omit<StoredRound, 'closedAt' | 'outcome'>): void {
    insertInto(this.#db, 'rounds', { job, ...round, assignments: JSON.stringify(round.assignments) });
  }

  close(job: string, round: number, at: number): void {
    updateRows(this.#db, 'rounds', { job, round }, { closedAt: at });
  }

  setOutcome(job: string, round: number, outcome: RoundOutcome): void {
    updateRows(this.#db, 'rounds', { job, round }, { outcome });
  }

  /** Records that the updates of a round's merge have been judged. @param isClear whether the scores were clear */
  setJudged(job: string, round: number, isClear: boolean): void {
    updateRows(this.#db, 'rounds', { job, round }, { scoresClear: isClear ? 1 : 0 });
  }

  isJudged(job: string, round: number): boolean {
    const row = this.#db.one('SELECT scores_clear FROM rounds WHERE job = ? AND round = ?', job, round);
    return row !== null && row.scores_clear !== null;
  }

  /** Returns the newest round whose updates were judged and whose scores were not clear; 0 if there is none. */
  newestUnclear(job: string): number {
    const sql = 'SELECT round FROM rounds WHERE job = ? AND scores_clear = 0 ORDER BY round DESC LIMIT 1';
    return (this.#db.one(sql, job)?.round as number | undefined) ?? 0;
  }

  /** Returns the number of the newest round; 0 if no round has opened. This is faster than `newest`. */
  newestNumber(job: string): number {
    const row = this.#db.one('SELECT round FROM rounds WHERE job = ? ORDER BY round DESC LIMIT 1', job);
    return (row?.round as number | undefined) ?? 0;
  }

  /** Returns the newest `count` rounds, newest first. */
  newest(job: string, count: number): StoredRound[] {
    return this.#db
      .all('SELECT * FROM rounds WHERE job = ? ORDER BY round DESC LIMIT ?', job, count)
      .map(readRound);
  }

  find(job: string, round: number): StoredRound | null {
    const row = this.#db.one('SELECT * FROM rounds WHERE job = ? AND round = ?', job, round);
    return row && readRound(row);
  }

  /** Returns the number of rounds with this outcome. */
  count(job: string, outcome: RoundOutcome): number {
    const row = this.#db.one('SELECT count(*) AS n FROM rounds WHERE job = ? AND outcome = ?', job, outcome);
    return row!.n as number;
  }

  /**
   * Returns the number of rounds that the gate refused since the newest checkpoint or since the last resume of the job,
   * whichever is later.
   */
  refusals(job: string): number {
    const row = this.#db.one(
      `SELECT count(*) AS n FROM rounds JOIN jobs USING (job)
       WHERE job = ? AND outcome = 'refused' AND round >= resumed_round
         AND round > coalesce((SELECT max(round) FROM checkpoints WHERE checkpoints.job = jobs.job), 0)`,
      job,
    );
    return row!.n as number;
  }

  /**
   * Returns the number of rounds in a row, up to the newest, that ended with too few updates. Rounds before the last
   * resume of the job do not count.
   */
  shortRounds(job: string): number {
    const row = this.#db.one(
      `SELECT count(*) AS n FROM rounds JOIN jobs USING (job)
       WHERE job = ? AND outcome = 'short' AND round >= resumed_round
         AND round > coalesce((SELECT max(round) FROM rounds WHERE job = ? AND outcome <> 'short'), 0)`,
      job,
      job,
    );
    return row!.n as number;
  }

  /** Deletes all rounds after `round`, and their checkpoints. */
  forgetAfter(job: string, round: number): void {
    for (const table of ['rounds', 'checkpoints']) {
      this.#db.run(`DELETE FROM ${table} WHERE job = ? AND round > ?`, job, round);
    }
  }

  putCheckpoint(job: string, checkpoint: NewCheckpoint, restoreReason: string | null = null): void {
    insertInto(this.#db, 'checkpoints', { job, ...checkpoint, restoreReason });
  }

  /** Returns the checkpoints whose weights are kept, oldest first. */
  held(job: string): HeldCheckpoint[] {
    return this.#db
      .all(
        `SELECT round, ordinal FROM (
           SELECT round, weights, row_number() OVER (ORDER BY round) - 1 AS ordinal
           FROM checkpoints WHERE job = ?)
         WHERE weights = 'held' ORDER BY round`,
        job,
      )
      .map((row) => fromRow(row));
  }

  /** Marks a checkpoint's weights as released, so that they are deleted from its folder next. */
  releaseWeights(job: string, round: number): void {
    this.#setWeights(job, round, 'leaving');
  }

  /** Returns the rounds of the checkpoints whose weights are released, and may still be in the checkpoint's folder. */
  leaving(job: string): number[] {
    return this.#db
      .all("SELECT round FROM checkpoints WHERE job = ? AND weights = 'leaving' ORDER BY round", job)
      .map(({ round }) => round as number);
  }

  /** Marks a checkpoint's weights as deleted. The caller has deleted them from the checkpoint's folder. */
  markWeightsGone(job: string, round: number): void {
    this.#setWeights(job, round, 'gone');
  }

  /** Marks a checkpoint's weights as kept. The caller has stored them again. */
  holdWeights(job: string, round: number): void {
    this.#setWeights(job, round, 'held');
  }

  #setWeights(job: string, round: number, weights: Weights): void {
    updateRows(this.#db, 'checkpoints', { job, round }, { weights });
  }

  /** Returns all checkpoints of a job, oldest first. */
  checkpoints(job: string): StoredCheckpoint[] {
    const rows = this.#db.all('SELECT * FROM checkpoints WHERE job = ? ORDER BY round', job);
    return rows.map((row) => fromRow(row));
  }

  /** Returns the checkpoints of the rounds `first` to `last`, oldest first. */
  checkpointsFrom(job: string, first: number, last: number): StoredCheckpoint[] {
    const sql = 'SELECT * FROM checkpoints WHERE job = ? AND round BETWEEN ? AND ? ORDER BY round';
    return this.#db.all(sql, job, first, last).map((row) => fromRow(row));
  }

  checkpoint(job: string, round: number): StoredCheckpoint | null {
    const row = this.#db.one('SELECT * FROM checkpoints WHERE job = ? AND round = ?', job, round);
    return row && fromRow(row);
  }

  /** Returns the newest checkpoint of the rounds before `round`; null if there is none. */
  newestCheckpointBefore(job: string, round: number): StoredCheckpoint | null {
    const sql = 'SELECT * FROM checkpoints WHERE job = ? AND round < ? ORDER BY round DESC LIMIT 1';
    const row = this.#db.one(sql, job, round);
    return row && fromRow(row);
  }

  /**
   * Returns the checkpoint with the lowest held-out loss since the newest roll-back. The roll-back itself counts. If
   * several checkpoints have this loss, returns the earliest. Returns null if no loss was measured.
   */
  lowestLoss(job: string): StoredCheckpoint | null {
    // Without `INDEXED BY`, SQLite reads and sorts all checkpoints: 54 ms for 10,000, each time the page asks for a job.
    const row = this.#db.one(
      `SELECT * FROM checkpoints INDEXED BY checkpoints_by_loss
       WHERE job = ? AND held_out_loss IS NOT NULL AND round >= coalesce(
         (SELECT max(round) FROM checkpoints INDEXED BY checkpoints_restored
          WHERE job = ? AND restores IS NOT NULL), 0)
       ORDER BY held_out_loss, round LIMIT 1`,
      job,
      job,
    );
    return row && fromRow(row);
  }

  /** Returns the newest `count` roll-backs of a job, newest first. */
  rollBacks(job: string, count: number): StoredCheckpoint[] {
    const sql = `SELECT * FROM checkpoints INDEXED BY checkpoints_restored
       WHERE job = ? AND restores IS NOT NULL ORDER BY round DESC LIMIT ?`;
    return this.#db.all(sql, job, count).map((row) => fromRow(row));
  }

  /** Returns the checkpoint with this digest, and the number of checkpoints before it. */
  checkpointOf(job: string, digest: string): (StoredCheckpoint & { ordinal: number }) | null {
    const row = this.#db.one(
      `SELECT *, (SELECT count(*) FROM checkpoints AS c WHERE c.job = checkpoints.job
                  AND c.round < checkpoints.round) AS ordinal
       FROM checkpoints WHERE job = ? AND digest = ?`,
      job,
      digest,
    );
    return row && fromRow(row);
  }

  /** Returns the checkpoint that has `ordinal` checkpoints of the job before it; null if there is none. */
  checkpointAt(job: string, ordinal: number): StoredCheckpoint | null {
    const sql = 'SELECT * FROM checkpoints WHERE job = ? ORDER BY round LIMIT 1 OFFSET ?';
    const row = this.#db.one(sql, job, ordinal);
    return row && fromRow(row);
  }

  /** Returns the rounds that have a checkpoint, oldest first. */
  checkpointRounds(job: string): number[] {
    return this.#db
      .all('SELECT round FROM checkpoints WHERE job = ? ORDER BY round', job)
      .map(({ round }) => round as number);
  }

  /** Returns round and held-out loss of all checkpoints, oldest first. `restores`: see NewCheckpoint. */
  losses(job: string): { round: number; loss: number | null; restores: number | null }[] {
    return this.#db
      .all('SELECT round, held_out_loss AS loss, restores FROM checkpoints WHERE job = ? ORDER BY round', job)
      .map((row) => fromRow(row));
  }

  /** Returns at most `count` checkpoints of rounds before `round`, newest first. */
  checkpointsBefore(job: string, round: number, count: number): StoredCheckpoint[] {
    const sql = 'SELECT * FROM checkpoints WHERE job = ? AND round < ? ORDER BY round DESC LIMIT ?';
    return this.#db.all(sql, job, round, count).map((row) => fromRow(row));
  }

  newestCheckpoints(job: string, count: number): StoredCheckpoint[] {
    return this.#db
      .all('SELECT * FROM checkpoints WHERE job = ? ORDER BY round DESC LIMIT ?', job, count)
      .map((row) => fromRow(row));
  }
}

function readRound(row: Row): StoredRound {
  const assignments = JSON.parse(row.assignments as string) as Assignment[];
  return { ...fromRow<StoredRound>(row), assignments };
}
