import { formatCount } from '../common/text.ts';
import type { RowTally } from '../lora/data/packing/tally.ts';
import { type BadRow, RowReport, type RowSummary } from '../lora/data/row-report.ts';
import type { Context } from './context.ts';

/** Rows that are named one by one; the summary counts all. */
const NAMED_ROWS = 10;

/** A report whose first bad rows are named on stderr as they are met. */
export function printedReport({ stderr }: Pick<Context, 'stderr'>, badRowShare: number): RowReport {
  const onBad = firstRows((row) => stderr.write(`swarm: ${badRowText(row)}\n`));
  return new RowReport({ badRowShare, onBad });
}

/** Passes on the first rows that it is given. */
export function firstRows(tell: (row: BadRow) => void): (row: BadRow) => void {
  let named = 0;
  return (row) => {
    if (named++ < NAMED_ROWS) tell(row);
  };
}

export function badRowText({ origin, code, reason }: BadRow): string {
  return `${origin.file}:${origin.row}: ${code}: ${reason}`;
}

/** `3 of 1,000 rows: 2 ROW_FIELD, 1 ROW_EMPTY`; null where every row was used. */
export function badRowSummary({ rows, bad, reasons }: RowSummary): string | null {
  if (bad === 0) return null;
  const each = reasons.map(({ code, count }) => `${formatCount(count)} ${code}`).join(', ');
  return `${formatCount(bad)} of ${formatCount(rows)} rows: ${each}`;
}

/** What did not become of the samples as they stand; nothing where all fitted. */
export function tallyLines({ samples, truncated, dropped, split, untrained }: RowTally): string[] {
  const parts = [
    [truncated, 'shortened to fit a row'],
    [split, 'split over several rows'],
    [dropped, 'longer than a row and left out'],
    [untrained, 'without a token to train and left out'],
  ].flatMap(([count, what]) => (count === 0 ? [] : [`${formatCount(Number(count))} ${what}`]));
  return parts.length === 0 ? [] : [`of ${formatCount(samples)} samples: ${parts.join(', ')}`];
}
