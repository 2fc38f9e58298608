import { table } from '../../common/text.ts';
import type { TaskResults } from '../../index.ts';

/** A table of the figures of a model, one row for each metric, with the digits of lm-evaluation-harness's table. */
export function taskTable(figures: TaskResults): string[] {
  const rows = Object.entries(figures.results).flatMap(([task, values]) =>
    Object.entries(values).flatMap(([key, value]) => {
      const [metric = '', filter] = key.split(',');
      if (filter === undefined || metric.endsWith('_stderr')) return [];
      const error = values[`${metric}_stderr,${filter}`];
      const direction = figures.higher_is_better[task]?.[metric] === true ? '↑' : '↓';
      return [
        [
          values.alias,
          String(figures['n-shot'][task] ?? 0),
          filter,
          `${metric} ${direction}`,
          fourDigits(value),
          `± ${typeof error === 'number' ? fourDigits(error) : 'N/A'}`,
        ],
      ];
    }),
  );
  return table([['task', 'examples', 'filter', 'metric', 'value', 'standard error'], ...rows]);
}

function fourDigits(value: number | string): string {
  return typeof value === 'number' ? value.toFixed(4) : value;
}
