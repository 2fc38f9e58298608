import type { Database } from '../../storage/database.ts';
import { ensureJob, markUnused } from './statements.ts';

/** The files of a job: its base and data as blobs, and the disk space that the job needs in all. */
export interface JobFilesRecord {
  readonly job: string;
  /** Digest of the base. */
  readonly base: string;
  /** Base files and data shards. */
  readonly blobs: readonly string[];
  readonly diskBytes: number;
  /** When the node last joined the job, as a Unix time in milliseconds. */
  readonly at: number;
}

/**
 * Records which jobs have files on the disk. The files of a finished job stay until the node joins its next job,
 * because that job may have the same base or data. The owner's limit on disk space is for all jobs together.
 */
export class JobFiles {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Protects a job's blobs from deletion. Call it before fetching them. */
  register({ job, base, blobs, diskBytes, at }: JobFilesRecord): void {
    this.#db.transaction(() => {
      ensureJob(this.#db, job);
      this.#db.run(
        'UPDATE jobs SET base = ?, disk_bytes = ?, used_at = ?, over = 0 WHERE job = ?',
        base,
        diskBytes,
        at,
        job,
      );
      for (const digest of blobs)
        this.#db.run('INSERT OR IGNORE INTO job_blobs (job, digest) VALUES (?, ?)', job, digest);
    });
  }

  /** Records that a job needs nothing more from this node. */
  markOver(job: string): void {
    this.#db.run('UPDATE jobs SET over = 1 WHERE job = ?', job);
  }

  /**
   * Returns the other jobs whose files must be deleted before `job` starts. These are all other jobs that are over. If
   * the remaining jobs need more than `maxBytes`, the jobs that have been unused for longest are added until the rest
   * fits. A base or data that several jobs share counts for each of these jobs.
   */
  surplus(job: string, maxBytes: number): string[] {
    const rows = this.#db.all(
      'SELECT job, over, disk_bytes FROM jobs WHERE base IS NOT NULL ORDER BY job = ? DESC, used_at DESC, job',
      job,
    );
    let bytes = 0;
    const surplus = rows.filter((row) => {
      if (row.job !== job && row.over === 1) return true;
      bytes += Number(row.disk_bytes);
      return row.job !== job && bytes > maxBytes;
    });
    return surplus.map((row) => String(row.job));
  }

  /** Releases all blobs of a job for deletion. The records of its updates stay. */
  release(job: string): void {
    this.#db.transaction(() => {
      const row = this.#db.one('SELECT feedback, optimizer, adapter FROM jobs WHERE job = ?', job);
      markUnused(this.#db, row?.feedback, row?.optimizer, row?.adapter);
      this.#db.run('INSERT OR IGNORE INTO loose (digest) SELECT digest FROM job_blobs WHERE job = ?', job);
      this.#db.run('DELETE FROM job_blobs WHERE job = ?', job);
      this.#db.run(
        `UPDATE jobs SET base = NULL, disk_bytes = 0, feedback = NULL, optimizer = NULL,
           checkpoint = NULL, adapter = NULL, adapter_bytes = 0 WHERE job = ?`,
        job,
      );
    });
  }

  /** Returns the digests of the bases of all registered jobs. */
  bases(): Set<string> {
    const rows = this.#db.all('SELECT DISTINCT base FROM jobs WHERE base IS NOT NULL');
    return new Set(rows.map(({ base }) => String(base)));
  }
}
