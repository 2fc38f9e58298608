import type { Database } from '../../storage/database.ts';

/** Merged updates of two nodes in one round that were as alike as an update and its copy. */
export interface StoredLikeness {
  readonly round: number;
  /** Peers, by which update was recorded first. */
  readonly earlier: string;
  readonly later: string;
  readonly cosine: number;
  /** Share of the indices that both sent; null at the dense preset. */
  readonly overlap: number | null;
}

/** What an operator may want to look at; nothing follows from it by itself. */
export class LikenessTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: string, { round, earlier, later, cosine, overlap }: StoredLikeness): void {
    this.#db.run(
      'INSERT OR IGNORE INTO likenesses (job, round, earlier, later, cosine, overlap) VALUES (?, ?, ?, ?, ?, ?)',
      job,
      round,
      earlier,
      later,
      cosine,
      overlap,
    );
  }

  /** Those that a peer has part in, newest first. */
  of(job: string, peer: string, limit: number): StoredLikeness[] {
    return this.#db
      .all(
        'SELECT * FROM likenesses WHERE job = ?1 AND (earlier = ?2 OR later = ?2) ORDER BY round DESC LIMIT ?3',
        job,
        peer,
        limit,
      )
      .map((row) => ({
        round: row.round as number,
        earlier: row.earlier as string,
        later: row.later as string,
        cosine: row.cosine as number,
        overlap: row.overlap as number | null,
      }));
  }
}
