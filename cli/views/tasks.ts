import { table } from '../../common/text.ts';
import type { Comparison, TaskResults } from '../../index.ts';
import {
  comparisonCells,
  comparisonHead,
  FIGURE_HEAD,
  figureCells,
} from '../../lora/evaluate/report/figures.ts';

/** Returns a table of the figures of a model, one row for each metric. @param columns maximum length of a line */
export function taskTable(figures: TaskResults, columns?: number): string[] {
  return table([FIGURE_HEAD, ...figureCells(figures)], { columns });
}

/**
 * Returns a table of the differences between two models, and a sentence that explains the table.
 * @param columns maximum length of a line of the table
 */
export function comparisonLines(
  { metrics, summary }: Comparison,
  against: string,
  columns?: number,
): string[] {
  const rows = [comparisonHead(against), ...metrics.map(comparisonCells)];
  return [...table(rows, { columns }), '', summary];
}
