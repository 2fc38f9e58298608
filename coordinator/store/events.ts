import type { JobEvent, JobEventBody } from '../../monitor/job-events.ts';
import type { Database, Row } from '../../storage/database.ts';

/** Events of each job, numbered from 1. */
export class EventTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  append(job: string, at: number, body: JobEventBody): JobEvent {
    const row = this.#db.one('SELECT max(sequence) AS last FROM events WHERE job = ?', job);
    const sequence = ((row?.last as number | null) ?? 0) + 1;
    this.#db.run(
      'INSERT INTO events (job, sequence, at, body) VALUES (?, ?, ?, ?)',
      job,
      sequence,
      at,
      JSON.stringify(body),
    );
    return { sequence, at, job, ...body };
  }

  /** Returns at most `limit` events after `sequence`. */
  after(job: string, sequence: number, limit: number): JobEvent[] {
    return this.#db
      .all(
        'SELECT * FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?',
        job,
        sequence,
        limit,
      )
      .map(readEvent);
  }
}

function readEvent(row: Row): JobEvent {
  const body = JSON.parse(row.body as string) as JobEventBody;
  return { sequence: row.sequence as number, at: row.at as number, job: row.job as string, ...body };
}
