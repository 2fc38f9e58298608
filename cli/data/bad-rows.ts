import { countOf, formatCount } from '../../common/text.ts';
import type { BadRow, RowSummary, RowTally } from '../../index.ts';
import { isSwarmError } from '../../index.ts';
import type { Context } from '../context.ts';
import { printNote } from '../print.ts';

/** Number of bad records that get a line each. The summary counts all bad records. */
const NAMED_ROWS = 10;

/**
 * Returns a callback that prints the first bad records to stderr.
 * @param progress progress line, which is erased before each record is printed
 */
export function printedRows(
  context: Pick<Context, 'stderr'>,
  progress?: { clear(): void },
): (row: BadRow) => void {
  return firstRows((row) => {
    progress?.clear();
    printNote(context, badRowText(row));
  });
}

/** Returns a callback that passes only the first NAMED_ROWS records to `onRow`. */
export function firstRows(onRow: (row: BadRow) => void): (row: BadRow) => void {
  let named = 0;
  return (row) => {
    if (named++ < NAMED_ROWS) onRow(row);
  };
}

export function badRowText({ origin, code, reason }: BadRow): string {
  return `${origin.file}:${origin.row}: ${code}: ${reason}`;
}

/** Returns a summary such as `3 of 1,000 records: 2 ROW_FIELD, 1 ROW_EMPTY`; null if every record was used. */
export function badRowSummary({ rows, bad, reasons }: RowSummary): string | null {
  if (bad === 0) return null;
  const each = reasons.map(({ code, count }) => `${formatCount(count)} ${code}`).join(', ');
  return `${formatCount(bad)} of ${countOf(rows, 'record')}: ${each}`;
}

/** Returns a line for each listed bad record: at most ten for each reason. */
export function badRowLines({ reasons }: RowSummary): string[] {
  return reasons.flatMap(({ code, count, rows }) => [
    ...rows.map(badRowText),
    ...(count > rows.length ? [`and ${formatCount(count - rows.length)} more with ${code}`] : []),
  ]);
}

/** Prints the listed bad records of an error DATA_BAD_ROWS to stderr. Other errors print nothing. */
export function printRefusedRows(context: Pick<Context, 'stderr'>, error: unknown): void {
  if (!isSwarmError(error, 'DATA_BAD_ROWS')) return;
  for (const text of badRowLines(error.values as unknown as RowSummary)) printNote(context, text);
}

/**
 * Returns a line that counts the samples that were cut, split or left out, and a line for each of the first ten samples
 * without a supervised token. Returns no line if no sample was cut, split or left out.
 */
export function tallyLines({
  samples,
  truncated,
  dropped,
  split,
  untrained,
  untrainedRows,
  heldOut,
}: RowTally): string[] {
  const parts = [
    [truncated, 'cut to fit a row'],
    [split, 'split into several pieces'],
    [dropped, 'left out because they are longer than a row'],
    [untrained, 'left out because no token counts in the loss'],
    [heldOut, 'left out because they are held-out samples'],
  ].flatMap(([count, what]) => (count === 0 ? [] : [`${formatCount(Number(count))} ${what}`]));
  if (parts.length === 0) return [];
  return [
    `of ${countOf(samples, 'sample')}: ${parts.join(', ')}`,
    ...untrainedRows.map(({ origin, reason }) => `${origin.file}:${origin.row}: ${reason}`),
  ];
}
