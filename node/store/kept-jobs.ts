import type { JobKey } from '../../protocol/access/job-key.ts';
import type { Database, Row } from '../../storage/database.ts';

/** Maximum number of jobs that a node keeps. A manifest can have 500 KiB, so all of them take at most 32 MiB. */
const KEPT_JOBS = 64;

/** A job that the node has joined. */
export interface KeptJob {
  readonly job: string;
  /** Peer id of the job's coordinator. */
  readonly coordinator: string;
  /** Whether everyone may join the job. */
  readonly isOpen: boolean;
  /** Newest key of the job that the node has. */
  readonly key: JobKey;
}

const COLUMNS = 'job, coordinator, is_open, key_id, key';

/**
 * The store of the jobs that a node has joined. After a restart, the node reads here the manifest of its job and which
 * peers may read the job, even if the coordinator is gone.
 */
export class KeptJobs {
  readonly #db: Database;
  /** The stored jobs; null before they are read. Strangers can ask for blobs at any time, which must not cause a query. */
  #jobs: readonly KeptJob[] | null = null;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the kept jobs. The job that the node joined last comes last. */
  get all(): readonly KeptJob[] {
    this.#jobs ??= this.#db.all(`SELECT ${COLUMNS} FROM kept_jobs ORDER BY joined_at, rowid`).map(keptJob);
    return this.#jobs;
  }

  find(job: string): KeptJob | null {
    return this.all.find((one) => one.job === job) ?? null;
  }

  /** Returns the signed manifest of a job. */
  manifest(job: string): Uint8Array | null {
    const row = this.#db.one('SELECT manifest FROM kept_jobs WHERE job = ?', job);
    return (row?.manifest as Uint8Array | undefined) ?? null;
  }

  /** Stores a job that the node has joined. @param joined `at`: time of the join, in milliseconds since 1970 */
  keep({ job, coordinator, isOpen, key }: KeptJob, joined: { manifest: Uint8Array; at: number }): void {
    this.#jobs = null;
    this.#db.transaction(() => {
      this.#db.run(
        `INSERT OR REPLACE INTO kept_jobs (job, coordinator, manifest, is_open, key_id, key, joined_at)
          VALUES (?, ?, ?, ?, ?, ?, ?)`,
        job,
        coordinator,
        joined.manifest,
        Number(isOpen),
        key.id,
        key.key,
        joined.at,
      );
      this.#db.run(
        `DELETE FROM kept_jobs WHERE job NOT IN
          (SELECT job FROM kept_jobs ORDER BY joined_at DESC, rowid DESC LIMIT ?)`,
        KEPT_JOBS,
      );
      // Without this deletion, a coordinator that starts job after job could fill the disk of a witness.
      this.#db.run('DELETE FROM kept_merges WHERE job NOT IN (SELECT job FROM kept_jobs)');
    });
  }

  /** Replaces the key of a job if it has changed. */
  learnKey(job: string, { id, key }: JobKey): void {
    const known = this.find(job);
    if (known === null || (known.key.id === id && Buffer.compare(known.key.key, key) === 0)) return;
    this.#jobs = null;
    this.#db.run('UPDATE kept_jobs SET key_id = ?, key = ? WHERE job = ?', id, key, job);
  }
}

function keptJob({ job, coordinator, is_open, key_id, key }: Row): KeptJob {
  return {
    job: String(job),
    coordinator: String(coordinator),
    isOpen: is_open === 1,
    key: { id: Number(key_id), key: key as Uint8Array },
  };
}
