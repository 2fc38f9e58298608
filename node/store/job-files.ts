import type { Database } from '../../storage/database.ts';
import { nodeError } from '../errors.ts';
import { ensureJob, markUnused } from './statements.ts';

/** A job of a coordinator. The digest alone does not suffice, because another coordinator can claim the same digest. */
export interface JobClaim {
  /** Peer id of the coordinator. */
  readonly coordinator: string;
  /** Digest of the job. */
  readonly job: string;
}

/** The files of a job: its base and data as blobs, and the total disk space that the job needs. */
export interface JobFilesRecord {
  readonly job: string;
  readonly name: string;
  /** Digest of the base. */
  readonly base: string;
  /** Digests of the base files and of the data shards. */
  readonly blobs: readonly string[];
  readonly diskBytes: number;
  /** Time at which the node last joined the job, as a Unix time in milliseconds. */
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

  /**
   * Records the coordinator of a job, so that no other coordinator gets the updates and the files of the job.
   * The manifest of an older job does not name its coordinator, so another coordinator can sign the same
   * manifest.
   * @throws SwarmError JOB_COORDINATOR if the job has another coordinator
   */
  bind({ job, coordinator }: JobClaim): void {
    this.#db.transaction(() => {
      ensureJob(this.#db, job);
      const known = this.#db.one('SELECT coordinator FROM jobs WHERE job = ?', job)!.coordinator;
      if (known === null) this.#db.run('UPDATE jobs SET coordinator = ? WHERE job = ?', coordinator, job);
      else if (known !== coordinator) {
        throw nodeError(
          'JOB_COORDINATOR',
          `this node knows job ${job} as a job of the coordinator ${known}, but now ${coordinator} offers it as its own`,
          { job, coordinator, known },
        );
      }
    });
  }

  /** Protects a job's blobs from deletion. Must be called before the blobs are fetched, and after {@link bind}. */
  register({ job, name, base, blobs, diskBytes, at }: JobFilesRecord): void {
    this.#db.transaction(() => {
      ensureJob(this.#db, job);
      this.#db.run(
        'UPDATE jobs SET name = ?, base = ?, disk_bytes = ?, used_at = ?, over = 0 WHERE job = ?',
        name,
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
   * Returns the jobs whose files must be deleted before a job starts. These are the jobs that are over and that the node
   * no longer takes part in. If the remaining jobs need more than `maxBytes`, this method also returns the jobs
   * that have been unused for longest, until the files of all other jobs fit. A base or data that several jobs share
   * counts for each of these jobs.
   * @param jobs `active`: the jobs that the node trains, or is about to train; their files stay. `finished`: jobs that are
   *   over, but whose files the node still serves; they stay if there is space
   */
  surplus(
    { active, finished }: { active: ReadonlySet<string>; finished: ReadonlySet<string> },
    maxBytes: number,
  ): string[] {
    const rows = this.#db
      .all('SELECT job, over, disk_bytes FROM jobs WHERE base IS NOT NULL ORDER BY used_at DESC, job')
      .map((row) => ({ job: String(row.job), isOver: row.over === 1, bytes: Number(row.disk_bytes) }));
    let bytes = rows.filter(({ job }) => active.has(job)).reduce((sum, { bytes: some }) => sum + some, 0);
    const surplus = rows.filter((row) => {
      if (active.has(row.job)) return false;
      if (row.isOver && !finished.has(row.job)) return true;
      bytes += row.bytes;
      return bytes > maxBytes;
    });
    return surplus.map(({ job }) => job);
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

  /**
   * Returns the smallest digest greater than `after` among the files and adapters of all jobs; null if there
   * is none. Other peers have these blobs too, so the node can fetch them again.
   */
  nextShared(after: string): string | null {
    const row = this.#db.one(
      `SELECT min(digest) AS digest FROM (
         SELECT min(digest) AS digest FROM job_blobs WHERE digest > ?
         UNION ALL SELECT min(adapter) FROM jobs WHERE adapter > ?
       )`,
      after,
      after,
    );
    return typeof row?.digest === 'string' ? row.digest : null;
  }

  /** Returns the jobs that have a blob among their files, with the digests of their bases. */
  jobsWith(digest: string): { job: string; base: string }[] {
    const sql = `SELECT jobs.job, base FROM jobs JOIN job_blobs ON job_blobs.job = jobs.job
      WHERE job_blobs.digest = ? AND base IS NOT NULL`;
    return this.#db.all(sql, digest).map(({ job, base }) => ({ job: String(job), base: String(base) }));
  }

  /** Returns the digests of the bases of all registered jobs. */
  bases(): Set<string> {
    const rows = this.#db.all('SELECT DISTINCT base FROM jobs WHERE base IS NOT NULL');
    return new Set(rows.map(({ base }) => String(base)));
  }
}
