import type { Figures as SignedFigures } from '../../protocol/messages.ts';
import type { Database, Row } from '../../storage/database.ts';
import { countedShare } from '../../verify/scores/belief.ts';
import { fromRow, insertInto } from './fields.ts';

/** Share of an author in an earlier merge, as signed figures publish it. */
export type EarlierShare = NonNullable<SignedFigures['updates'][number]['earlier']>[number];

/** Figures of an update, and the belief in its author. See lora/update/score.ts and verify/scores/belief.ts. */
export interface StoredScore {
  readonly peer: string;
  /** The round in which the update was trained. */
  readonly round: number;
  /** The round whose merge included the update, or left it out. */
  readonly mergeRound: number;
  /** Measured figures, in nats per token; null if the update was not scored. */
  readonly figures: {
    readonly effect: number;
    readonly effectError: number;
    readonly gain: number;
    /** Measured decrease of the loss on random rows after the whole update was applied; null if it was not measured. */
    readonly exact: number | null;
    /** Number of rows of the author's interval on which the gain was measured. */
    readonly ownRows: number;
  } | null;
  /** Effect of a late update at the parent of the merge; null if the update is not late or was not measured. */
  readonly late: { readonly effect: number; readonly effectError: number } | null;
  /** Earlier shares of the author from which the belief was computed, newest first; null in rows of older versions. */
  readonly earlier: readonly EarlierShare[] | null;
  /** Number from 0 to 1 that compares effect and gain with the medians of the round (`sharesOf`); null if unknown. */
  readonly share: number | null;
  /** Factor, from 0 to 1, by which the update's weight in the merge is multiplied. */
  readonly belief: number;
  /** Whether the merge leaves the update out, because it raises the loss or changes nothing. */
  readonly isHarmful: boolean;
}

/** The figures of a score. In a row of the table, they are columns. A row without figures has the effect null. */
type Figures = NonNullable<StoredScore['figures']>;
type ScoreRow = Omit<StoredScore, 'figures' | 'late' | 'earlier'> &
  Omit<Figures, 'effect'> & {
    readonly effect: number | null;
    readonly lateEffect: number | null;
    readonly lateError: number | null;
    readonly earlier: string | null;
  };

/** Scores of updates, and the seeds that chose the rows on which they were measured. */
export class ScoreTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the seed of a round's scores; null if none was drawn. */
  seed(job: string, round: number): Uint8Array | null {
    const row = this.#db.one('SELECT seed FROM scorings WHERE job = ? AND round = ?', job, round);
    return row && (row.seed as Uint8Array);
  }

  putSeed(job: string, round: number, seed: Uint8Array): void {
    insertInto(this.#db, 'scorings', { job, round, seed });
  }

  insert(job: string, { figures, late, earlier, ...score }: StoredScore): void {
    insertInto(this.#db, 'scores', {
      job,
      ...score,
      ...(figures ?? { ownRows: 0 }),
      isHarmful: score.isHarmful ? 1 : 0,
      lateEffect: late?.effect ?? null,
      lateError: late?.effectError ?? null,
      earlier: earlier && JSON.stringify(earlier),
    });
  }

  /** Deletes the scores of all merges of rounds after `round`. */
  forgetAfter(job: string, round: number): void {
    this.#db.run('DELETE FROM scores WHERE job = ? AND merge_round > ?', job, round);
    this.#db.run('DELETE FROM scorings WHERE job = ? AND round > ?', job, round);
  }

  /** Returns whether the updates of a merge were scored. */
  has(job: string, mergeRound: number): boolean {
    const sql = 'SELECT 1 FROM scores INDEXED BY scores_by_merge WHERE job = ? AND merge_round = ? LIMIT 1';
    return this.#db.one(sql, job, mergeRound) !== null;
  }

  /** Returns the scores of the updates of a merge, sorted by peer and round; empty if they were not scored. */
  ofMerge(job: string, mergeRound: number): StoredScore[] {
    return this.#db
      .all(
        `SELECT * FROM scores INDEXED BY scores_by_merge WHERE job = ? AND merge_round = ? ORDER BY peer, round`,
        job,
        mergeRound,
      )
      .map(readScore);
  }

  /** Returns a peer's scores, newest first. */
  ofPeer(job: string, peer: string, limit: number): StoredScore[] {
    return this.#db
      .all(
        'SELECT * FROM scores WHERE job = ? AND peer = ? ORDER BY merge_round DESC, round DESC LIMIT ?',
        job,
        peer,
        limit,
      )
      .map(readScore);
  }

  /** Returns the number of a peer's known shares in the merges of the rounds from `after` + 1 to `last`. */
  countShares(job: string, peer: string, { after, last }: { after: number; last: number }): number {
    const row = this.#db.one(
      `SELECT count(*) AS n FROM scores WHERE job = ? AND peer = ? AND merge_round > ? AND merge_round <= ?
         AND share IS NOT NULL`,
      job,
      peer,
      after,
      last,
    );
    return row!.n as number;
  }

  /**
   * Returns a peer's known shares in merges before round `before`, newest first. The share of an update is 0 if its
   * audit had failed by then.
   */
  shares(job: string, peer: string, range: { before: number; limit: number }): number[] {
    return this.earlier(job, peer, range).map(countedShare);
  }

  /** Returns the shares that `shares` counts, each with its update, and whether the audit of the update had failed. */
  earlier(job: string, peer: string, { before, limit }: { before: number; limit: number }): EarlierShare[] {
    return this.#db
      .all(
        `SELECT merge_round, round, share, EXISTS (
             SELECT 1 FROM audits WHERE audits.job = scores.job AND audits.round = scores.round
               AND audits.peer = scores.peer AND state = 'failed' AND decided_round <= ?) AS failed
         FROM scores WHERE job = ? AND peer = ? AND merge_round < ? AND share IS NOT NULL
         ORDER BY merge_round DESC, round DESC LIMIT ?`,
        before,
        job,
        peer,
        before,
        limit,
      )
      .map((row) => ({
        merge: row.merge_round as number,
        round: row.round as number,
        share: row.share as number,
        failed: row.failed === 1,
      }));
  }
}

function readScore(row: Row): StoredScore {
  const { effect, effectError, gain, exact, ownRows, lateEffect, lateError, earlier, ...score } =
    fromRow<ScoreRow>(row);
  return {
    ...score,
    figures: effect === null ? null : { effect, effectError, gain, exact, ownRows },
    late: lateEffect === null ? null : { effect: lateEffect, effectError: lateError! },
    earlier: earlier === null ? null : (JSON.parse(earlier) as EarlierShare[]),
    isHarmful: row.is_harmful === 1,
  };
}
