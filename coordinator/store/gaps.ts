import type { Database } from '../../storage/database.ts';

/** Two checkpoints, one after the other in the database, of which the first is not the parent of the second. */
export interface Gap {
  readonly below: { readonly round: number; readonly digest: string };
  /** `parent`: digest of the missing parent. */
  readonly above: { readonly round: number; readonly parent: string };
}

/** The places at which checkpoints of jobs are missing. */
export class GapTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the gaps of a job, oldest first. */
  of(job: string): Gap[] {
    const sql = `SELECT * FROM (
        SELECT one.round, rounds.parent, lag(one.digest) OVER (ORDER BY one.round) AS below_digest,
          lag(one.round) OVER (ORDER BY one.round) AS below_round
        FROM checkpoints AS one LEFT JOIN rounds USING (job, round) WHERE job = ?)
      WHERE parent <> below_digest ORDER BY round`;
    return this.#db.all(sql, job).map((row) => ({
      below: { round: Number(row.below_round), digest: String(row.below_digest) },
      above: { round: Number(row.round), parent: String(row.parent) },
    }));
  }

  /** Deletes the rounds between two rounds, and their checkpoints. */
  clear(job: string, after: number, before: number): void {
    for (const table of ['rounds', 'checkpoints']) {
      this.#db.run(`DELETE FROM ${table} WHERE job = ? AND round > ? AND round < ?`, job, after, before);
    }
  }
}
