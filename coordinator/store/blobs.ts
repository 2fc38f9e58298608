import type { Manifest } from '../../protocol/manifest.ts';
import type { UnusedBlobs } from '../../storage/blob-collector.ts';
import type { Database } from '../../storage/database.ts';

/**
 * A job's reason to keep a blob:
 * `job`      its base, its data and the bodies of its checkpoints, for as long as the job exists
 * `adapter`  a checkpoint's weights
 * `step`     a checkpoint's delta, and the delta's quantisation error
 * `update`   an update's payload
 * `audit`    payload and parent's weights of an update that may be trained again
 */
export type BlobUse = 'job' | 'adapter' | 'step' | 'update' | 'audit';

/** Returns the digests of the blobs that a job needs for its whole life: base and data. */
export function jobBlobs({ base, data }: Manifest): string[] {
  return [...base.files, ...data.shards].map(({ digest }) => digest);
}

/** Tables of the blobs that jobs need, and of blobs that may be in the blob store although no job needs them. */
export class BlobTable implements UnusedBlobs {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Records that a job needs blobs. The caller must be in the transaction of the row that names the blobs. */
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

  /** Ends the uses in the rounds `first` to `last`. The next sweep deletes the blobs unless another use remains. */
  release(job: string, use: BlobUse, first: number, last: number): void {
    const range = [job, use, first, last] as const;
    const which = 'job = ? AND use = ? AND round BETWEEN ? AND ?';
    this.#db.run(
      `INSERT OR IGNORE INTO loose_blobs SELECT DISTINCT digest FROM blob_uses WHERE ${which}`,
      ...range,
    );
    this.#db.run(`DELETE FROM blob_uses WHERE ${which}`, ...range);
  }

  /** Returns the reasons of all jobs to keep a blob. The round is 0 if the blob belongs to the whole job. */
  usesOf(digest: string): { job: string; use: BlobUse; round: number }[] {
    return this.#db
      .all('SELECT job, use, round FROM blob_uses WHERE digest = ?', digest)
      .map(({ job, use, round }) => ({ job: job as string, use: use as BlobUse, round: round as number }));
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
