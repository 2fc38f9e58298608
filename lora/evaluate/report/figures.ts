import { formatFigure } from '../../../common/text.ts';
import { changeText, type MetricComparison, probabilityText } from '../compare/compare.ts';
import type { TaskResults } from '../tasks/results.ts';

/** One figure of a model. */
export interface Figure {
  readonly task: string;
  readonly alias: string;
  readonly metric: string;
  readonly filter: string;
  /** Number of few-shot examples in a prompt; null for a group whose tasks have different numbers. */
  readonly shots: number | null;
  readonly higherIsBetter: boolean;
  readonly value: number;
  /** Standard error of `value`; null if the metric has none. */
  readonly standardError: number | null;
}

/** Returns the figures of a model as a list, in the order of its tasks. */
export function figureList({ results, higher_is_better, 'n-shot': shots }: TaskResults): Figure[] {
  return Object.entries(results).flatMap(([task, values]) =>
    Object.entries(values).flatMap(([key, value]): Figure[] => {
      const comma = key.indexOf(',');
      const metric = key.slice(0, comma);
      if (comma < 0 || metric.endsWith('_stderr') || typeof value !== 'number') return [];
      const filter = key.slice(comma + 1);
      const error = values[`${metric}_stderr,${filter}`];
      return [
        {
          task,
          alias: values.alias,
          metric,
          filter,
          shots: shots[task] ?? null,
          higherIsBetter: higher_is_better[task]?.[metric] === true,
          value,
          standardError: typeof error === 'number' ? error : null,
        },
      ];
    }),
  );
}

/** Titles of the columns of {@link figureCells}. */
export const FIGURE_HEAD = ['task', 'shots', 'filter', 'metric', 'value', 'standard error'];

/** Returns the figures of a model as the cells of a table. */
export function figureCells(figures: TaskResults): string[][] {
  return figureList(figures).map(({ alias, shots, filter, metric, higherIsBetter, value, standardError }) => [
    alias,
    String(shots ?? ''),
    filter,
    `${metric} ${higherIsBetter ? '↑' : '↓'}`,
    formatFigure(value),
    `± ${standardError === null ? 'N/A' : formatFigure(standardError)}`,
  ]);
}

/**
 * Returns the titles of the columns of {@link comparisonCells}.
 * @param against name of the second model, with which the evaluated model is compared
 */
export function comparisonHead(against: string): string[] {
  return ['task', 'filter', 'metric', 'value', `against ${against}`, 'change (95 %)', 'p', 'p (Holm)', ''];
}

/** Returns the comparison of two models in one metric as the cells of a table. */
export function comparisonCells(one: MetricComparison): string[] {
  return [
    one.task,
    one.filter,
    `${one.metric} ${one.higherIsBetter ? '↑' : '↓'}`,
    formatFigure(one.value),
    formatFigure(one.against),
    changeText(one),
    probabilityText(one.p),
    probabilityText(one.adjustedP),
    one.verdict,
  ];
}
