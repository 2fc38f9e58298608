/** Reports rows that cannot be used, counts them by reason, and stops the run if there are too many. */

import { countOf } from '../../common/text.ts';
import { dataError } from './errors.ts';
import type { Origin } from './examples.ts';

/**
 * Default of the share of bad rows above which a run stops. A few bad rows in a large file are normal. A larger share
 * suggests that the file is read in the wrong format.
 */
export const DEFAULT_BAD_ROW_SHARE = 0.01;
/**
 * The share of bad rows is first checked after this many rows, or at the end of the data. After fewer rows, a single bad
 * row would be a large share.
 */
const MIN_ROWS_SEEN = 10;

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
   * Share of bad rows above which the run stops. With 0, it stops at the first bad row. With 1, it never stops because
   * of bad rows. @default 0.01
   */
  badRowShare?: number;
  /** Receives every bad row. */
  onBad?: (row: BadRow) => void;
}

/** Number of rows, and the reasons why some cannot be used. */
export interface RowSummary {
  /** All rows read. */
  rows: number;
  /** Rows that cannot be used. */
  bad: number;
  /** Reasons, the most frequent first, each with the first row that has this problem. */
  reasons: { code: string; count: number; first: BadRow }[];
}

/**
 * Counts bad rows. Reading and rendering share one report: the reader calls `see` for every row, and both call `bad` for
 * rows that they cannot use.
 */
export class RowReport {
  readonly #share: number;
  readonly #onBad: (row: BadRow) => void;
  readonly #reasons = new Map<string, { count: number; first: BadRow }>();
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

  /** Reports a row that cannot be used. @throws DATA_BAD_ROWS if there are too many */
  bad(row: BadRow): void {
    this.#refused++;
    const known = this.#reasons.get(row.code);
    if (known) known.count++;
    else this.#reasons.set(row.code, { count: 1, first: row });
    this.#onBad(row);
    if (this.#share === 0 || this.#seen >= MIN_ROWS_SEEN) this.#check();
  }

  /** Checks the share of bad rows at the end of the data, however few rows there are. @throws DATA_BAD_ROWS */
  finish(): void {
    this.#check();
  }

  summary(): RowSummary {
    const reasons = [...this.#reasons].map(([code, { count, first }]) => ({ code, count, first }));
    reasons.sort((a, b) => b.count - a.count);
    return { rows: this.#seen, bad: this.#refused, reasons };
  }

  #check(): void {
    if (this.#refused === 0 || this.#refused <= this.#share * this.#seen) return;
    const { rows, bad, reasons } = this.summary();
    const { first, code } = reasons[0]!;
    throw dataError(
      'DATA_BAD_ROWS',
      `${bad} of ${countOf(rows, 'row')} cannot be used (limit ${Number((100 * this.#share).toPrecision(6))} %); ` +
        `the most frequent reason is ${code}, first at ${first.origin.file}:${first.origin.row}: ${first.reason}`,
      { rows, bad, share: this.#share, reasons },
    );
  }
}
