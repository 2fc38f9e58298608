import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Database, Row } from '../../storage/database.ts';
import type { Ending } from '../round/state.ts';

/** Rule for joining a job: any node, nodes with an invite, or listed peers. */
export type Admission =
  | { readonly kind: 'open' }
  | { readonly kind: 'invite' }
  | { readonly kind: 'peers'; readonly peers: readonly string[] };

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
  readonly ending: Ending | null;
  /** Round of the checkpoint that the operator wants to restore; null if there is no such request. */
  readonly rollBackTo: number | null;
  readonly createdAt: number;
}

/** Jobs, their held-out data, and the newest signed head of each. */
export class JobTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: StoredJob, heldOut: Uint8Array): void {
    this.#db.run(
      `INSERT INTO jobs (job, name, content, manifest, layout, term, admission, token, base_loss, created_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      job.job,
      job.name,
      job.content,
      job.manifest,
      JSON.stringify(job.layout),
      job.term,
      JSON.stringify(job.admission),
      job.token,
      job.baseLoss,
      job.createdAt,
    );
    this.#db.run('INSERT INTO held_out (job, bytes) VALUES (?, ?)', job.job, heldOut);
  }

  all(): StoredJob[] {
    return this.#db.all('SELECT * FROM jobs ORDER BY created_at, name').map(readJob);
  }

  byName(name: string): StoredJob | null {
    const row = this.#db.one('SELECT * FROM jobs WHERE name = ?', name);
    return row && readJob(row);
  }

  heldOut(job: string): Uint8Array | null {
    return (this.#db.one('SELECT bytes FROM held_out WHERE job = ?', job)?.bytes as Uint8Array) ?? null;
  }

  /**
   * Records that the operator has resumed a job at `round`. Earlier refused rounds no longer count towards the refusals
   * in a row.
   */
  setResumed(job: string, round: number): void {
    this.#db.run('UPDATE jobs SET resumed_round = ? WHERE job = ?', round, job);
  }

  setEnding(job: string, ending: Ending | null): void {
    this.#db.run('UPDATE jobs SET ending = ? WHERE job = ?', ending && JSON.stringify(ending), job);
  }

  setRollBack(job: string, rollBackTo: number | null): void {
    this.#db.run('UPDATE jobs SET roll_back_to = ? WHERE job = ?', rollBackTo, job);
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
    job: row.job as string,
    name: row.name as string,
    content: row.content as string,
    manifest: row.manifest as Uint8Array,
    layout: JSON.parse(row.layout as string) as AdapterLayout,
    term: row.term as number,
    admission: JSON.parse(row.admission as string) as Admission,
    token: row.token as string | null,
    baseLoss: row.base_loss as number | null,
    ending: row.ending === null ? null : (JSON.parse(row.ending as string) as Ending),
    rollBackTo: row.roll_back_to as number | null,
    createdAt: row.created_at as number,
  };
}
