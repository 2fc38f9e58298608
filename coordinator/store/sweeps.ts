import type { Database } from '../../storage/database.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';

/** A sweep: the coordinator repeatedly stops the half of its jobs with the higher held-out losses. */
export interface StoredSweep {
  readonly name: string;
  /** Number of checkpoints after which the first half of the jobs is stopped. It doubles with each halving. */
  readonly rounds: number;
  /** Number of halvings so far. */
  readonly halvings: number;
  /** Whether the sweep has ended without a winner, because no job had a held-out loss. */
  readonly failed: boolean;
  readonly createdAt: number;
}

/** A job of a sweep. */
export interface StoredEntry {
  readonly job: string;
  /** Human-readable list of the settings in which the job differs from the other jobs. */
  readonly variant: string;
  /** Number of the halving that stopped the job, from 1; null if no halving has stopped it. */
  readonly outAt: number | null;
  /**
   * Held-out loss at the newest halving; null before the first halving, or if the job had no held-out loss
   * then.
   */
  readonly loss: number | null;
}

/** Sweeps and their jobs. */
export class SweepTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(
    { name, rounds, createdAt }: Omit<StoredSweep, 'halvings' | 'failed'>,
    entries: readonly Pick<StoredEntry, 'job' | 'variant'>[],
  ): void {
    insertInto(this.#db, 'sweeps', { name, rounds, createdAt });
    for (const { job, variant } of entries) insertInto(this.#db, 'sweep_jobs', { sweep: name, job, variant });
  }

  all(): StoredSweep[] {
    const rows = this.#db.all('SELECT * FROM sweeps ORDER BY created_at, name');
    return rows.map((row) => ({ ...fromRow<StoredSweep>(row), failed: row.failed === 1 }));
  }

  entries(sweep: string): StoredEntry[] {
    const sql = 'SELECT job, variant, out_at, loss FROM sweep_jobs WHERE sweep = ? ORDER BY rowid';
    return this.#db.all(sql, sweep).map((row) => fromRow(row));
  }

  /** Returns the names of the sweeps that have only this job left. */
  wonBy(job: string): string[] {
    const sql = `SELECT sweep FROM sweep_jobs WHERE job = ? AND out_at IS NULL AND 1 =
      (SELECT count(*) FROM sweep_jobs AS other WHERE other.sweep = sweep_jobs.sweep AND other.out_at IS NULL)`;
    return this.#db.all(sql, job).map(({ sweep }) => sweep as string);
  }

  /** Records that a sweep has ended without a winner. */
  fail(name: string): void {
    updateRows(this.#db, 'sweeps', { name }, { failed: 1 });
  }

  /** Records a halving: the losses of the jobs that were left, and which of these jobs it stops (`isOut`). */
  halve(
    { name, halvings }: Pick<StoredSweep, 'name' | 'halvings'>,
    judged: readonly { job: string; loss: number | null; isOut: boolean }[],
  ): void {
    updateRows(this.#db, 'sweeps', { name }, { halvings: halvings + 1 });
    for (const { job, loss, isOut } of judged) {
      updateRows(this.#db, 'sweep_jobs', { sweep: name, job }, { loss, outAt: isOut ? halvings + 1 : null });
    }
  }
}
