import { table } from '../../common/text.ts';
import type { Comparison, TaskResults } from '../../index.ts';
import {
  comparisonCells,
  comparisonHead,
  FIGURE_HEAD,
  figureCells,
} from '../../lora/evaluate/report/figures.ts';

/** Returns a table of the figures of a model, one row for each metric. */
export function taskTable(figures: TaskResults): string[] {
  return table([FIGURE_HEAD, ...figureCells(figures)]);
}

/** Returns a table of the differences between two models, and a sentence that explains the table. */
export function comparisonLines({ metrics, summary }: Comparison, against: string): string[] {
  return [...table([comparisonHead(against), ...metrics.map(comparisonCells)]), '', summary];
}
