import { type BadRow, RowReport, type RowSummary } from '../lora/data/row-report.ts';
import { formatCount } from '../monitor/text.ts';
import type { Context } from './context.ts';

/** Rows that are named one by one; the summary counts all. */
const NAMED_ROWS = 10;

/** A report whose bad rows are named on stderr as they are met. */
export function printedReport(context: Pick<Context, 'stderr'>, badRowShare: number): RowReport {
  return new RowReport({ badRowShare, onBad: namer(context) });
}

/** Prints the first rows that it is given. */
export function namer({ stderr }: Pick<Context, 'stderr'>): (row: BadRow) => void {
  let named = 0;
  return ({ origin, code, reason }) => {
    if (named++ < NAMED_ROWS) stderr.write(`swarm: ${origin.file}:${origin.row}: ${code}: ${reason}\n`);
  };
}

/** One line, or none where every row was used. */
export function badRowLines({ rows, bad, reasons }: RowSummary): string[] {
  if (bad === 0) return [];
  const each = reasons.map(({ code, count }) => `${formatCount(count)} ${code}`).join(', ');
  return [`left out      ${formatCount(bad)} of ${formatCount(rows)} rows: ${each}`];
}
