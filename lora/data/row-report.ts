/** Rows that cannot be used: named, counted by reason, and too many of them stop the run. */

import { dataError } from './errors.ts';
import type { Origin } from './examples.ts';

/** A few broken rows in a large file are normal; more mean that the file is read the wrong way. */
export const DEFAULT_BAD_ROW_SHARE = 0.01;
/** The share of fewer rows than this says nothing, except at the end. */
const MIN_ROWS_SEEN = 10;

/** A row that cannot be used. */
export interface BadRow {
  origin: Origin;
  /** What is counted, for example `ROW_NOT_JSON`. */
  code: string;
  /** In words, with the value that is wrong. */
  reason: string;
}

export interface RowReportOptions {
  /** Share of unusable rows above which the run stops; 0 stops at the first, 1 never. @default 0.01 */
  badRowShare?: number;
  onBad?: (row: BadRow) => void;
}

export interface RowSummary {
  /** Rows read, usable or not. */
  rows: number;
  bad: number;
  /** The most frequent first, each with the first row of its kind. */
  reasons: { code: string; count: number; first: BadRow }[];
}

/**
 * One report goes through reading and rendering: the reader counts every row as seen, and whoever finds a row
 * unusable says so with `bad`.
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

  /** A row was read. */
  see(): void {
    this.#seen++;
  }

  /** A row that was seen cannot be used. @throws DATA_BAD_ROWS when there are too many */
  bad(row: BadRow): void {
    this.#refused++;
    const known = this.#reasons.get(row.code);
    if (known) known.count++;
    else this.#reasons.set(row.code, { count: 1, first: row });
    this.#onBad(row);
    if (this.#share === 0 || this.#seen >= MIN_ROWS_SEEN) this.#check();
  }

  /** At the end of the data. @throws DATA_BAD_ROWS when there are too many bad rows for a short file too */
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
      `${bad} of ${rows} rows cannot be used, more than the allowed ${Number((100 * this.#share).toPrecision(6))} %; ` +
        `most often ${code}, first at ${first.origin.file}:${first.origin.row}: ${first.reason}; ` +
        'correct the data, or allow more with --bad-rows (in job files data.badRowShare)',
      { rows, bad, share: this.#share, reasons },
    );
  }
}
