import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Database, Row } from '../../storage/database.ts';
import type { Ending, PauseCause } from '../round/state.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';

/** Rule for joining a job: any node, nodes with an invite, or listed peers. */
export type Admission =
  | { readonly kind: 'open' }
  | { readonly kind: 'invite' }
  | { readonly kind: 'peers'; readonly peers: readonly string[] };

/**
 * A pause or stop that takes effect when the closed round has ended. Older versions of this program stored no
 * cause of a pause.
 */
export type StoredEnding =
  | Ending
  | { readonly phase: 'paused'; readonly reason: string; readonly cause?: undefined };

export interface StoredJob {
  readonly job: string;
  readonly name: string;
  readonly content: string;
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  readonly layout: AdapterLayout;
  readonly term: number;
  readonly admission: Admission;
  readonly token: string | null;
  readonly baseLoss: number | null;
  readonly ending: StoredEnding | null;
  /** Cause of the pause; null if the job is not paused, or if an older version of this program paused it. */
  readonly pauseCause: PauseCause | null;
  /** Round of the checkpoint that the operator wants to restore; null if there is no such request. */
  readonly rollBackTo: number | null;
  /** Reason that the operator gave for the roll-back; null if there is none. */
  readonly rollBackReason: string | null;
  /** Jobs with a higher priority come first. */
  readonly priority: number;
  /** Digest of the job that a queued job waits for; null if the job is not queued. */
  readonly afterJob: string | null;
  readonly createdAt: number;
}

const JOB =
  'job, name, content, manifest, layout, term, admission, token, base_loss, ending, pause_cause, roll_back_to, roll_back_reason, priority, after_job, created_at';

/** An order of the operator to stop a job that is behind its nodes. */
interface StopOrder {
  readonly reason: string;
  /** The later head that a node has proven (see `StopOrders`). */
  readonly proof: Uint8Array;
}

/** A signed change of a job's settings. */
interface NewSettings {
  readonly sequence: number;
  readonly digest: string;
  readonly envelope: Uint8Array;
}

/** Jobs, their held-out data, and the newest signed head of each. */
export class JobTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: StoredJob, heldOut: Uint8Array): void {
    const {
      ending: _,
      pauseCause: __,
      rollBackTo: ___,
      rollBackReason: ____,
      layout,
      admission,
      ...fields
    } = job;
    const texts = { layout: JSON.stringify(layout), admission: JSON.stringify(admission) };
    insertInto(this.#db, 'jobs', { ...fields, ...texts });
    this.#db.run('INSERT INTO held_out (job, bytes) VALUES (?, ?)', job.job, heldOut);
  }

  all(): StoredJob[] {
    return this.#db.all(`SELECT ${JOB} FROM jobs ORDER BY created_at, name`).map(readJob);
  }

  byName(name: string): StoredJob | null {
    const row = this.#db.one(`SELECT ${JOB} FROM jobs WHERE name = ?`, name);
    return row && readJob(row);
  }

  heldOut(job: string): Uint8Array | null {
    return (this.#db.one('SELECT bytes FROM held_out WHERE job = ?', job)?.bytes as Uint8Array) ?? null;
  }

  /**
   * Records that the operator has resumed a job at `round`. `RoundTable.refusals` and `RoundTable.shortRounds` then no
   * longer count earlier rounds.
   */
  setResumed(job: string, round: number): void {
    updateRows(this.#db, 'jobs', { job }, { resumedRound: round });
  }

  setTerm(job: string, term: number): void {
    updateRows(this.#db, 'jobs', { job }, { term });
  }

  setEnding(job: string, ending: Ending | null): void {
    updateRows(this.#db, 'jobs', { job }, { ending: ending && JSON.stringify(ending) });
  }

  setPauseCause(job: string, pauseCause: PauseCause | null): void {
    updateRows(this.#db, 'jobs', { job }, { pauseCause });
  }

  /** @param rollBackReason reason that the operator gave */
  setRollBack(job: string, rollBackTo: number | null, rollBackReason: string | null = null): void {
    updateRows(this.#db, 'jobs', { job }, { rollBackTo, rollBackReason });
  }

  /** Records that the operator has ordered to stop a job that is behind its nodes. null: the order has been carried out. */
  setStopOrder(job: string, order: StopOrder | null): void {
    updateRows(
      this.#db,
      'jobs',
      { job },
      { stopOrder: order?.reason ?? null, stopProof: order?.proof ?? null },
    );
  }

  /** Returns the orders to stop a job that have not been carried out. */
  stopOrders(): (StopOrder & { readonly job: string })[] {
    const rows = this.#db.all('SELECT job, stop_order, stop_proof FROM jobs WHERE stop_order IS NOT NULL');
    return rows.map(({ job, stop_order: reason, stop_proof: proof }) => ({
      job: job as string,
      reason: reason as string,
      proof: proof as Uint8Array,
    }));
  }

  setPlace(job: string, place: Pick<StoredJob, 'priority' | 'afterJob'>): void {
    updateRows(this.#db, 'jobs', { job }, { ...place });
  }

  /** Adds a signed change of a job's settings. */
  addSettings(job: string, change: NewSettings): void {
    insertInto(this.#db, 'job_settings', { job, ...change });
  }

  /** Replaces all signed changes of a job's settings. */
  replaceSettings(job: string, changes: readonly NewSettings[]): void {
    this.#db.run('DELETE FROM job_settings WHERE job = ?', job);
    for (const change of changes) this.addSettings(job, change);
  }

  /** Returns the signed changes of a job's settings, oldest first. */
  settings(job: string): Uint8Array[] {
    const sql = 'SELECT envelope FROM job_settings WHERE job = ? ORDER BY sequence';
    return this.#db.all(sql, job).map(({ envelope }) => envelope as Uint8Array);
  }

  /** Returns the signed change of the job's settings with this digest; null if the job has no such change. */
  settingsRecord(job: string, digest: string): Uint8Array | null {
    const row = this.#db.one('SELECT envelope FROM job_settings WHERE job = ? AND digest = ?', job, digest);
    return (row?.envelope as Uint8Array) ?? null;
  }

  /** Replaces the newest head of a job. */
  putHead(job: string, sequence: number, envelope: Uint8Array): void {
    this.#db.run('INSERT INTO heads (job, sequence, envelope) VALUES (?, ?, ?)', job, sequence, envelope);
    this.#db.run('DELETE FROM heads WHERE job = ? AND sequence < ?', job, sequence);
  }

  head(job: string): Uint8Array | null {
    const row = this.#db.one('SELECT envelope FROM heads WHERE job = ? ORDER BY sequence DESC LIMIT 1', job);
    return (row?.envelope as Uint8Array) ?? null;
  }
}

function readJob(row: Row): StoredJob {
  return {
    ...fromRow<StoredJob>(row),
    layout: JSON.parse(row.layout as string) as AdapterLayout,
    admission: JSON.parse(row.admission as string) as Admission,
    ending: row.ending === null ? null : (JSON.parse(row.ending as string) as StoredEnding),
  };
}
