import type { JobEvent, JobEventBody } from '../../protocol/api/job-events.ts';
import type { Database, Row } from '../../storage/database.ts';

/** Events of each job, numbered from 1. */
export class EventTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  append(job: string, at: number, body: JobEventBody): JobEvent {
    const sequence = this.newest(job) + 1;
    this.#db.run(
      'INSERT INTO events (job, sequence, at, body) VALUES (?, ?, ?, ?)',
      job,
      sequence,
      at,
      JSON.stringify(body),
    );
    return { sequence, at, job, ...body };
  }

  /** Returns at most `limit` events after `sequence`. @param types types of the events; undefined for all types */
  after(job: string, sequence: number, limit: number, types?: readonly string[]): JobEvent[] {
    const ofTypes = types ? `AND json_extract(body, '$.type') IN (${types.map(() => '?').join(', ')})` : '';
    return this.#db
      .all(
        `SELECT * FROM events WHERE job = ? AND sequence > ? ${ofTypes} ORDER BY sequence LIMIT ?`,
        job,
        sequence,
        ...(types ?? []),
        limit,
      )
      .map(readEvent);
  }

  /** Returns the sequence number of the job's newest event; 0 if there is none. */
  newest(job: string): number {
    const row = this.#db.one('SELECT max(sequence) AS last FROM events WHERE job = ?', job);
    return (row?.last as number | null) ?? 0;
  }

  /** Returns the time of the job's newest event; null if there is none. */
  newestAt(job: string): number | null {
    const row = this.#db.one('SELECT at FROM events WHERE job = ? ORDER BY sequence DESC LIMIT 1', job);
    return row && (row.at as number);
  }
}

function readEvent(row: Row): JobEvent {
  const body = JSON.parse(row.body as string) as JobEventBody;
  return { sequence: row.sequence as number, at: row.at as number, job: row.job as string, ...body };
}
