import type { JobTotals, Traffic } from '../../protocol/api/node.ts';
import type { JobContribution } from '../../protocol/contribution.ts';
import type { Database, Row } from '../../storage/database.ts';

/** Whether a row of the table `updates` is an update of the present key. Without a known key, all updates are. */
export const IS_OWN = 'updates.peer IS (SELECT peer FROM present_key)';
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
         SUM(updates.tokens * ${COUNTS}) AS tokens, SUM(seconds * ${COUNTS}) AS seconds,
         contributions.round, place, contributors, contributions.tokens AS merged_tokens, total_tokens
       FROM updates LEFT JOIN jobs ON jobs.job = updates.job
         LEFT JOIN contributions ON contributions.job = updates.job
       WHERE ${IS_OWN} GROUP BY updates.job ORDER BY MAX(updates.rowid) DESC`,
    );
    return rows.map((row) => ({
      job: String(row.job),
      name: typeof row.name === 'string' ? row.name : null,
      accepted: Number(row.accepted ?? 0),
      refused: Number(row.refused ?? 0),
      tokens: Number(row.tokens ?? 0),
      seconds: Number(row.seconds ?? 0),
      contribution: contributionOf(row),
    }));
  }

  /** Returns whether this node has made an update for a job. */
  hasWork(job: string): boolean {
    return this.#db.one(`SELECT 1 FROM updates WHERE job = ? AND ${IS_OWN} LIMIT 1`, job) !== null;
  }

  /** Stores the newest answer of a coordinator about what this node has contributed to a job. */
  saveContribution(job: string, { round, place, contributors, tokens, totalTokens }: JobContribution): void {
    const sql = `INSERT OR REPLACE INTO contributions (job, round, place, contributors, tokens, total_tokens)
      VALUES (?, ?, ?, ?, ?, ?)`;
    this.#db.run(sql, job, round, place, contributors, tokens, totalTokens);
  }

  /** Deletes the answers of the coordinators, which were for another key of this home. */
  forgetContributions(): void {
    this.#db.run('DELETE FROM contributions');
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

function contributionOf(row: Row): JobContribution | null {
  if (row.place === null) return null;
  return {
    round: Number(row.round),
    place: Number(row.place),
    contributors: Number(row.contributors),
    tokens: Number(row.merged_tokens),
    totalTokens: Number(row.total_tokens),
  };
}
