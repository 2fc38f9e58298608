/** Reports rows that cannot be used, counts them by reason, and stops the run if there are too many. */

import { countOf, formatPercent } from '../../common/text.ts';
import { dataError } from './errors.ts';
import type { Origin } from './examples.ts';

/**
 * Default of the share of bad rows above which a run stops. A few bad rows in a large file are normal. A larger share
 * suggests that the file is read in the wrong format.
 */
export const DEFAULT_BAD_ROW_SHARE = 0.01;
/** Maximum number of bad rows that a summary lists for each reason. All bad rows are counted. */
const LISTED_ROWS = 10;

/** A row that cannot be used. */
export interface BadRow {
  origin: Origin;
  /** Reason code, such as `ROW_NOT_JSON`. A summary counts the bad rows of each code. */
  code: string;
  /** Description of the problem, with the wrong value. */
  reason: string;
}

export interface RowReportOptions {
  /**
   * Share of bad rows, among all rows of all files, above which the run stops. With 0, it stops at the first bad row.
   * With 1, it never stops because of bad rows. @default 0.01
   */
  badRowShare?: number;
  /** Receives every bad row. */
  onBad?: (row: BadRow) => void;
}

/** Number of rows, and the reasons why some cannot be used. */
export interface RowSummary {
  /** Number of rows read. */
  rows: number;
  /** Number of rows that cannot be used. */
  bad: number;
  /** Reasons, the most frequent first, each with its first bad rows (at most 10). */
  reasons: { code: string; count: number; rows: BadRow[] }[];
}

/**
 * Counts bad rows. Reading and rendering share one report: the reader calls `see` for every row, and both call `bad` for
 * rows that they cannot use.
 */
export class RowReport {
  readonly #share: number;
  readonly #onBad: (row: BadRow) => void;
  readonly #reasons = new Map<string, { count: number; rows: BadRow[] }>();
  #seen = 0;
  #refused = 0;

  constructor({ badRowShare = DEFAULT_BAD_ROW_SHARE, onBad = () => {} }: RowReportOptions = {}) {
    this.#share = badRowShare;
    this.#onBad = onBad;
  }

  /** Counts a row that was read. */
  see(): void {
    this.#seen++;
  }

  /** Reports a row that cannot be used. @throws DATA_BAD_ROWS if `badRowShare` is 0 */
  bad(row: BadRow): void {
    this.#refused++;
    const reason = this.#reasons.get(row.code) ?? { count: 0, rows: [] };
    this.#reasons.set(row.code, reason);
    reason.count++;
    if (reason.rows.length < LISTED_ROWS) reason.rows.push(row);
    this.#onBad(row);
    if (this.#share === 0) this.#check();
  }

  /**
   * Checks the share of bad rows. Called at the end of the data, because bad rows may lie close together. The
   * share among the first rows therefore says little about the share among all rows.
   * @throws DATA_BAD_ROWS
   */
  finish(): void {
    this.#check();
  }

  summary(): RowSummary {
    const reasons = [...this.#reasons].map(([code, { count, rows }]) => ({ code, count, rows: [...rows] }));
    reasons.sort((a, b) => b.count - a.count);
    return { rows: this.#seen, bad: this.#refused, reasons };
  }

  #check(): void {
    if (this.#refused === 0 || this.#refused <= this.#share * this.#seen) return;
    const { rows, bad, reasons } = this.summary();
    const { rows: listed, code, count } = reasons[0]!;
    const { origin, reason } = listed[0]!;
    const limit = Number((100 * this.#share).toPrecision(6));
    throw dataError(
      'DATA_BAD_ROWS',
      `${bad} of ${countOf(rows, 'row')} cannot be used (${formatPercent(bad / rows)}, limit ${limit} %); ` +
        `the most frequent reason is ${code} (${countOf(count, 'row')}), first at ${origin.file}:${origin.row}: ${reason}`,
      { rows, bad, share: this.#share, reasons },
    );
  }
}
