import type { Manifest } from '../../protocol/job/manifest.ts';
import type { UnusedBlobs } from '../../storage/blob-collector.ts';
import type { Database } from '../../storage/database.ts';

/**
 * A job's reason to keep a blob. The blob contains
 * `job`      the base, the data or the body of a checkpoint, which are kept as long as the job exists
 * `adapter`  the weights of a checkpoint
 * `step`     the delta of a checkpoint, or the residual of its merge
 * `update`   the payload of an update
 * `audit`    the payload of an update that may be audited, or the weights from which it was trained
 */
export type BlobUse = 'job' | 'adapter' | 'step' | 'update' | 'audit';

/** Returns the digests of the blobs that a job needs for its whole life: base and data. */
export function jobBlobs({ base, data }: Manifest): string[] {
  return [...base.files, ...data.shards].map(({ digest }) => digest);
}

/** Lists of the blobs that jobs need, and of the blobs that garbage collection may delete. */
export class BlobTable implements UnusedBlobs {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Records that a job needs blobs. Must be called in the transaction that writes the row with the digests of
   * these blobs.
   */
  use(job: string, use: BlobUse, round: number, digests: readonly string[]): void {
    for (const digest of digests) {
      this.#db.run(
        'INSERT OR IGNORE INTO blob_uses (job, use, round, digest) VALUES (?, ?, ?, ?)',
        job,
        use,
        round,
        digest,
      );
      this.#db.run('DELETE FROM loose_blobs WHERE digest = ?', digest);
    }
  }

  /**
   * Records that a job no longer needs the blobs that it used in the rounds `first` to `last`. The next
   * garbage collection deletes the blobs that have no other use.
   */
  release(job: string, use: BlobUse, first: number, last: number): void {
    const range = [job, use, first, last] as const;
    const which = 'job = ? AND use = ? AND round BETWEEN ? AND ?';
    this.#db.run(
      `INSERT OR IGNORE INTO loose_blobs SELECT DISTINCT digest FROM blob_uses WHERE ${which}`,
      ...range,
    );
    this.#db.run(`DELETE FROM blob_uses WHERE ${which}`, ...range);
  }

  /** Returns which jobs need a blob, and why. The round is 0 if the whole job needs the blob. */
  usesOf(digest: string): { job: string; use: BlobUse; round: number }[] {
    return this.#db
      .all('SELECT job, use, round FROM blob_uses WHERE digest = ?', digest)
      .map(({ job, use, round }) => ({ job: job as string, use: use as BlobUse, round: round as number }));
  }

  /** Returns the first needed blob after `digest` in the order of digests; null if there is none. */
  nextUsed(digest: string): string | null {
    const sql = 'SELECT digest FROM blob_uses WHERE digest > ? ORDER BY digest LIMIT 1';
    return (this.#db.one(sql, digest)?.digest as string | undefined) ?? null;
  }

  /** Returns whether any job needs a blob. */
  needs(digest: string): boolean {
    return this.#db.one('SELECT 1 FROM blob_uses WHERE digest = ? LIMIT 1', digest) !== null;
  }

  markUnused(digest: string): void {
    if (this.needs(digest)) return;
    this.#db.run('INSERT OR IGNORE INTO loose_blobs (digest) VALUES (?)', digest);
  }

  unused(): string[] {
    return this.#db
      .all(
        `SELECT digest FROM loose_blobs
         WHERE NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob_uses.digest = loose_blobs.digest)`,
      )
      .map(({ digest }) => digest as string);
  }

  isUnused(digest: string): boolean {
    return this.#db.one('SELECT 1 FROM loose_blobs WHERE digest = ?', digest) !== null && !this.needs(digest);
  }

  forget(digest: string): void {
    this.#db.run('DELETE FROM loose_blobs WHERE digest = ?', digest);
  }
}
