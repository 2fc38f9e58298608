import type { BadRow, Origin, RowSummary } from '../../protocol/api/job-creation.ts';
/** Reports records that cannot be used, counts them by reason, and stops the run if there are too many. */

import { countOf, formatPercent } from '../../common/text.ts';
import { dataError } from './errors.ts';

/**
 * Default for the maximum share of bad records. If the share is larger, the run stops. A few bad records in a large
 * file are normal. A larger share suggests that the file is read in the wrong format.
 */
export const DEFAULT_BAD_ROW_SHARE = 0.01;
/** Maximum number of bad records that a summary lists for each reason. All bad records are counted. */
const LISTED_ROWS = 10;

export interface RowReportOptions {
  /**
   * Share of bad records, among all records of all files, above which the run stops. With 0, it stops at the first bad
   * record. With 1, it never stops because of bad records. @default 0.01
   */
  badRowShare?: number;
  /** Receives every bad record. */
  onBad?: (row: BadRow) => void;
  /** Summary of another report, whose records count here too. @default no records */
  earlier?: RowSummary | undefined;
}

/**
 * Counts bad records. Reading and rendering share one report: the reader calls `see` for every record, and both call
 * `bad` for records that they cannot use.
 */
export class RowReport {
  readonly #share: number;
  readonly #onBad: (row: BadRow) => void;
  readonly #reasons = new Map<string, { count: number; rows: BadRow[] }>();
  /** Places of the files in the order of reading. */
  #files = new Map<string, number>();
  #seen = 0;
  #refused = 0;

  constructor({ badRowShare = DEFAULT_BAD_ROW_SHARE, onBad = () => {}, earlier }: RowReportOptions = {}) {
    this.#share = badRowShare;
    this.#onBad = onBad;
    if (earlier === undefined) return;
    this.#seen = earlier.rows;
    this.#refused = earlier.bad;
    for (const { code, count, rows } of earlier.reasons) this.#reasons.set(code, { count, rows: [...rows] });
  }

  /**
   * Returns a report for reading files again whose records this report has counted. Only the order of the files is also
   * noted here.
   */
  again(): RowReport {
    const again = new RowReport({ badRowShare: this.#share });
    again.#files = this.#files;
    return again;
  }

  /** Notes that the records of a file follow. Called for the files in the order of reading. */
  begin(file: string): void {
    if (!this.#files.has(file)) this.#files.set(file, this.#files.size);
  }

  /** Counts a record that was read. */
  see(): void {
    this.#seen++;
  }

  /** Reports a record that cannot be used. @throws DATA_BAD_ROWS if `badRowShare` is 0 */
  bad(row: BadRow): void {
    this.#refused++;
    const reason = this.#reasons.get(row.code) ?? { count: 0, rows: [] };
    this.#reasons.set(row.code, reason);
    reason.count++;
    // Records do not arrive in order: rendering reports after reading, and the parts of the data follow each other.
    this.begin(row.origin.file);
    reason.rows.push(row);
    reason.rows.sort((a, b) => this.#compare(a.origin, b.origin));
    reason.rows.splice(LISTED_ROWS);
    this.#onBad(row);
    if (this.#share === 0) this.#check();
  }

  /**
   * Checks the share of bad records. Called at the end of the data, because bad records may lie close together. The
   * share among the first records therefore says little about the share among all records.
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

  #compare(a: Origin, b: Origin): number {
    const place = ({ file }: Origin): number => this.#files.get(file) ?? this.#files.size;
    return place(a) - place(b) || a.row - b.row;
  }

  #check(): void {
    if (this.#refused === 0 || this.#refused <= this.#share * this.#seen) return;
    const { rows, bad, reasons } = this.summary();
    const { rows: listed, code, count } = reasons[0]!;
    const { origin, reason } = listed[0]!;
    const limit = Number((100 * this.#share).toPrecision(6));
    throw dataError(
      'DATA_BAD_ROWS',
      `${bad} of ${countOf(rows, 'record')} cannot be used (${formatPercent(bad / rows)}, limit ${limit} %); ` +
        `the most frequent reason is ${code} (${countOf(count, 'record')}), first at ${origin.file}:${origin.row}: ${reason}`,
      { rows, bad, share: this.#share, reasons },
    );
  }
}
