import type { Database } from '../../storage/database.ts';

/**
 * A job's reason to keep a blob: as a part of its base or data, as its newest adapter, or as the payload of an update.
 */
export interface BlobUse {
  readonly job: string;
  /** Peer id of the job's coordinator; null before the node has joined it. */
  readonly coordinator: string | null;
  readonly kind: 'files' | 'adapter' | 'update';
}

const USES = `SELECT uses.job, uses.kind, jobs.coordinator FROM (
    SELECT job, 'files' AS kind FROM job_blobs WHERE digest = ?
    UNION ALL SELECT job, 'adapter' FROM jobs WHERE adapter = ?
    UNION ALL SELECT job, 'update' FROM updates WHERE digest = ? AND outcome IS NULL
  ) AS uses JOIN jobs ON jobs.job = uses.job
  WHERE uses.kind = 'update' OR EXISTS (
    SELECT 1 FROM blob_origins WHERE blob_origins.digest = ? AND blob_origins.coordinator = jobs.coordinator
  )`;

/**
 * Records for each blob which coordinators have supplied it: the coordinators in whose jobs the node fetched or
 * computed the whole blob. Anyone can know a digest. The node therefore uses data and adapters in a job, and serves
 * files and adapters to the peers of the job, only if the job's coordinator supplied the bytes. It also uses base files
 * that only another coordinator supplied (blobs/obtain.ts).
 */
export class BlobOrigins {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  has(digest: string, coordinator: string): boolean {
    const sql = 'SELECT 1 FROM blob_origins WHERE digest = ? AND coordinator = ?';
    return this.#db.one(sql, digest, coordinator) !== null;
  }

  /**
   * Returns which jobs need a blob, and for what. Leaves out files and adapters of jobs whose coordinator has not
   * supplied the blob. Leaves out error feedback and optimiser moments, because no peer may fetch these blobs.
   */
  usesOf(digest: string): BlobUse[] {
    return this.#db.all(USES, digest, digest, digest, digest).map(({ job, coordinator, kind }) => ({
      job: String(job),
      coordinator: typeof coordinator === 'string' ? coordinator : null,
      kind: kind as BlobUse['kind'],
    }));
  }

  add(digest: string, coordinator: string): void {
    this.#db.run(
      'INSERT OR IGNORE INTO blob_origins (digest, coordinator) VALUES (?, ?)',
      digest,
      coordinator,
    );
  }

  /** Removes what is recorded about a deleted blob. */
  forget(digest: string): void {
    this.#db.run('DELETE FROM blob_origins WHERE digest = ?', digest);
  }
}
