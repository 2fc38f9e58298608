import type { FlatFigures } from '../../lora/evaluate/process/messages.ts';
import type { ChosenMetric } from '../../lora/evaluate/tasks/chosen-metric.ts';
import type { Database, Row } from '../../storage/database.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';

/** Tasks on which the checkpoints of a job are evaluated. */
export interface JobTasks {
  /** Absolute paths of task files. */
  readonly files: readonly string[];
  /** Number n: every n-th checkpoint is evaluated, and also the last one. */
  readonly every: number;
  /** Metric that decides which checkpoint is the best; null if the held-out loss decides. */
  readonly metric: ChosenMetric | null;
  /** Number of documents of each task that are evaluated; null for all documents. */
  readonly limit: number | null;
}

/** The outcome of the evaluation of a checkpoint: its figures, or the reason why the evaluation failed. */
export interface TaskResult {
  /** Round of the checkpoint. */
  readonly round: number;
  /** Figures of the tasks; null if the evaluation failed. */
  readonly figures: FlatFigures | null;
  /** The chosen metric, or its negative if lower values are better. null if no metric is chosen, or after a failure. */
  readonly score: number | null;
  /** Reason why the evaluation failed; empty otherwise. */
  readonly reason: string;
  readonly seconds: number;
  readonly at: number;
}

/** The tasks of jobs, and the figures of their checkpoints. */
export class TaskTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  set(job: string, tasks: JobTasks): void {
    insertInto(this.#db, 'job_tasks', { job, settings: JSON.stringify(tasks) });
  }

  /** Changes how often the checkpoints of a job that has tasks are evaluated. */
  setEvery(job: string, every: number): void {
    const settings = JSON.stringify({ ...this.of(job), every });
    updateRows(this.#db, 'job_tasks', { job }, { settings });
  }

  /** Returns the tasks of a job; null if the job has none. */
  of(job: string): JobTasks | null {
    const row = this.#db.one('SELECT settings FROM job_tasks WHERE job = ?', job);
    return row && (JSON.parse(row.settings as string) as JobTasks);
  }

  add(job: string, { figures, ...result }: TaskResult): void {
    insertInto(this.#db, 'task_results', { job, ...result, figures: figures && JSON.stringify(figures) });
  }

  /** Returns the results of the checkpoints of the rounds `from` to `to`, by default of all rounds, oldest first. */
  results(job: string, { from, to } = { from: 0, to: Number.MAX_SAFE_INTEGER }): TaskResult[] {
    const sql = 'SELECT * FROM task_results WHERE job = ? AND round BETWEEN ? AND ? ORDER BY round';
    return this.#db.all(sql, job, from, to).map(readResult);
  }

  /**
   * Returns the result with the best score; null if there is no score. Among equal scores, the lowest held-out loss
   * decides, because accuracies on few documents are often equal. Ignores results from before the newest roll-back,
   * because the roll-back withdrew those checkpoints.
   */
  highestScore(job: string): TaskResult | null {
    const row = this.#db.one(
      `SELECT task_results.* FROM task_results JOIN checkpoints USING (job, round)
       WHERE job = ? AND score IS NOT NULL AND round >= coalesce(
         (SELECT max(round) FROM checkpoints INDEXED BY checkpoints_restored
          WHERE job = ? AND restores IS NOT NULL), 0)
       ORDER BY score DESC, held_out_loss IS NULL, held_out_loss, round LIMIT 1`,
      job,
      job,
    );
    return row && readResult(row);
  }

  /** Returns the newest evaluation result that has figures; null if there is none. */
  newest(job: string): TaskResult | null {
    const row = this.#db.one(
      'SELECT * FROM task_results WHERE job = ? AND figures IS NOT NULL ORDER BY round DESC LIMIT 1',
      job,
    );
    return row && readResult(row);
  }

  /**
   * Returns the checkpoints that have weights but no result, oldest first. `ordinal` is the number of
   * checkpoints of the job before this one.
   */
  unevaluated(job: string): { round: number; ordinal: number }[] {
    return this.#db
      .all(
        `SELECT round, ordinal FROM (
           SELECT round, weights, row_number() OVER (ORDER BY round) - 1 AS ordinal
           FROM checkpoints WHERE job = ?)
         WHERE weights = 'held' AND round NOT IN (SELECT round FROM task_results WHERE job = ?) ORDER BY round`,
        job,
        job,
      )
      .map((row) => fromRow(row));
  }
}

function readResult(row: Row): TaskResult {
  const figures = row.figures === null ? null : (JSON.parse(row.figures as string) as FlatFigures);
  return { ...fromRow<TaskResult>(row), figures };
}
