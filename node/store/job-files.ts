import type { Database } from '../../storage/database.ts';
import { ensureJob, markUnused } from './statements.ts';

/** What a node takes in for a job: its base and data as blobs, and what they and the adapter's files take. */
export interface JobFilesRecord {
  readonly job: string;
  /** Digest of the base. */
  readonly base: string;
  /** Base files and data shards. */
  readonly blobs: readonly string[];
  readonly diskBytes: number;
  readonly at: number;
}

/**
 * What lies on the disk for which job. A job that is over keeps its own until the node turns to another one, which may
 * have the same base or data; what is lent is the bound for all jobs together.
 */
export class JobFiles {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** To be called before anything is fetched: from now on nothing of it is deleted. */
  enter({ job, base, blobs, diskBytes, at }: JobFilesRecord): void {
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

  /** A job needs nothing more of this node. */
  over(job: string): void {
    this.#db.run('UPDATE jobs SET over = 1 WHERE job = ?', job);
  }

  /**
   * Jobs besides the one that is entered whose things have to go: those that are over, and of the others the longest
   * unused until the rest fits. Shared bases and data are counted for each job.
   */
  surplus(job: string, maxBytes: number): string[] {
    const rows = this.#db.all(
      'SELECT job, over, disk_bytes FROM jobs WHERE base IS NOT NULL ORDER BY job = ? DESC, used_at DESC, job',
      job,
    );
    let bytes = 0;
    const going = rows.filter((row) => {
      if (row.job !== job && row.over === 1) return true;
      bytes += Number(row.disk_bytes);
      return row.job !== job && bytes > maxBytes;
    });
    return going.map((row) => String(row.job));
  }

  /** Lets go of all blobs of a job; what became of its updates stays known. */
  letGo(job: string): void {
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

  /** Digests of the bases that are still needed. */
  bases(): Set<string> {
    const rows = this.#db.all('SELECT DISTINCT base FROM jobs WHERE base IS NOT NULL');
    return new Set(rows.map(({ base }) => String(base)));
  }
}
