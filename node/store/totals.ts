import type { Database } from '../../storage/database.ts';

/** The work of a node in one job, over the life of its home. */
export interface JobTotals {
  readonly job: string;
  /** Name of the job; null for a job that the node last joined with an older release. */
  readonly name: string | null;
  /** Number of updates that the coordinator accepted and did not leave out later. */
  readonly accepted: number;
  /** Number of updates that did not count. Their content went into later updates. */
  readonly refused: number;
  /** Number of supervised tokens of the accepted updates. Updates of older releases count as 0. */
  readonly tokens: number;
  /** Training time of the accepted updates, in seconds. */
  readonly seconds: number;
}

/** Bytes sent and received on all connections. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
}

const COUNTS = "(outcome = 'counted' OR (outcome IS NULL AND code IN ('accepted', 'late')))";

/**
 * Totals of a node's home: the contributed work of each job, and the traffic of each month. They outlive restarts.
 */
export class Totals {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the totals of each job that has an update; the job with the newest update comes first. */
  jobs(): JobTotals[] {
    const rows = this.#db.all(
      `SELECT updates.job, jobs.name, SUM(${COUNTS}) AS accepted, SUM(outcome IS 'restored') AS refused,
         SUM(tokens * ${COUNTS}) AS tokens, SUM(seconds * ${COUNTS}) AS seconds
       FROM updates LEFT JOIN jobs ON jobs.job = updates.job
       GROUP BY updates.job ORDER BY MAX(updates.at) DESC`,
    );
    return rows.map((row) => ({
      job: String(row.job),
      name: typeof row.name === 'string' ? row.name : null,
      accepted: Number(row.accepted ?? 0),
      refused: Number(row.refused ?? 0),
      tokens: Number(row.tokens ?? 0),
      seconds: Number(row.seconds ?? 0),
    }));
  }

  /** Adds bytes to the traffic of a month. @param month month in UTC, as in "2026-11" */
  addTraffic(month: string, { sent, received }: Traffic): void {
    this.#db.run(
      `INSERT INTO traffic (month, sent, received) VALUES (?, ?, ?)
       ON CONFLICT (month) DO UPDATE SET sent = sent + excluded.sent, received = received + excluded.received`,
      month,
      sent,
      received,
    );
  }

  /** Returns the traffic of a month, as far as it is stored. @param month month in UTC, as in "2026-11" */
  traffic(month: string): Traffic {
    const row = this.#db.one('SELECT sent, received FROM traffic WHERE month = ?', month);
    return { sent: Number(row?.sent ?? 0), received: Number(row?.received ?? 0) };
  }
}
