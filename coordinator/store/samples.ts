import type { SampleResult, SampleText } from '../../protocol/api/samples.ts';
import type { Database, Row } from '../../storage/database.ts';
import { fromRow, insertInto } from './fields.ts';

/** A text that the base and checkpoints of a job continue. */
export interface SamplePrompt {
  /** The prompt as people see it. */
  readonly text: string;
  /** The prompt as the model gets it, with special tokens. */
  readonly tokens: readonly number[];
  /** Whether the prompt is the beginning of a held-out row. */
  readonly isHeldOut: boolean;
}

/** The prompts of a job, and which checkpoints continue them. */
export interface JobSamples {
  readonly prompts: readonly SamplePrompt[];
  /** Number n: every n-th checkpoint is sampled, and also the last one. */
  readonly every: number;
  /** Maximum number of tokens of each continuation. */
  readonly maxTokens: number;
}

/**
 * Number of newest results that the database keeps for each job. A result has at most 8 prompts with 6,000 characters
 * each, so the results of a job have at most 2.4 million characters.
 */
export const KEPT_RESULTS = 50;

/** The prompts of jobs, and the samples of their checkpoints. */
export class SampleTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  set(job: string, samples: JobSamples): void {
    insertInto(this.#db, 'job_samples', { job, settings: JSON.stringify(samples) });
  }

  /** Returns the prompts of a job; null if the job has none. */
  of(job: string): JobSamples | null {
    const row = this.#db.one('SELECT settings FROM job_samples WHERE job = ?', job);
    return row && (JSON.parse(row.settings as string) as JobSamples);
  }

  /**
   * Adds a result, and deletes the oldest results of the job.
   * @param kept the round whose result is not deleted even if the result is old; null for none
   */
  add(job: string, { texts, ...result }: SampleResult, kept: number | null): void {
    insertInto(this.#db, 'samples', { job, ...result, texts: texts && JSON.stringify(texts) });
    this.#db.run(
      `DELETE FROM samples WHERE job = ? AND round IS NOT ? AND round NOT IN (
         SELECT round FROM samples WHERE job = ? ORDER BY round DESC LIMIT ${KEPT_RESULTS})`,
      job,
      kept,
      job,
    );
  }

  /** Returns the samples of a checkpoint; null if the checkpoint was not sampled. */
  result(job: string, round: number): SampleResult | null {
    const row = this.#db.one('SELECT * FROM samples WHERE job = ? AND round = ?', job, round);
    return row && readResult(row);
  }

  /** Returns the rounds of all results, oldest first. */
  rounds(job: string): number[] {
    return this.#db
      .all('SELECT round FROM samples WHERE job = ? ORDER BY round', job)
      .map(({ round }) => round as number);
  }

  /** Returns the newest result that has samples; null if there is none. */
  newest(job: string): SampleResult | null {
    const row = this.#db.one(
      'SELECT * FROM samples WHERE job = ? AND texts IS NOT NULL ORDER BY round DESC LIMIT 1',
      job,
    );
    return row && readResult(row);
  }
}

function readResult({ job: _, ...row }: Row): SampleResult {
  const texts = row.texts === null ? null : (JSON.parse(row.texts as string) as SampleText[]);
  return { ...fromRow<SampleResult>(row), texts };
}
