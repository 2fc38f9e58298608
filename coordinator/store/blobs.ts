import type { UnusedBlobs } from '../../storage/blob-collector.ts';
import type { Database } from '../../storage/database.ts';

/**
 * What a job needs a blob for:
 * `job`      its base, its data, and the bodies of its checkpoints: as long as there is the job
 * `adapter`  a checkpoint's weights
 * `step`     what led to a checkpoint: its delta, and what the delta's quantisation left over
 * `update`   an update's payload
 */
export type BlobUse = 'job' | 'adapter' | 'step' | 'update';

/** Which blobs are needed, and which may lie in the blob store although they are not. */
export class BlobTable implements UnusedBlobs {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** To be called in the transaction of the row that names them. */
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

  /** Ends uses of the rounds given. The blobs are deleted later, by whoever sweeps, unless something else needs them. */
  release(job: string, use: BlobUse, first: number, last: number): void {
    const range = [job, use, first, last] as const;
    const which = 'job = ? AND use = ? AND round BETWEEN ? AND ?';
    this.#db.run(
      `INSERT OR IGNORE INTO loose_blobs SELECT DISTINCT digest FROM blob_uses WHERE ${which}`,
      ...range,
    );
    this.#db.run(`DELETE FROM blob_uses WHERE ${which}`, ...range);
  }

  /** Whether anything needs a blob. */
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
