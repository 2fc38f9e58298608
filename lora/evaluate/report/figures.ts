import type { TaskResults } from '../tasks/results.ts';

/** One figure of a model. */
export interface Figure {
  readonly task: string;
  readonly alias: string;
  readonly metric: string;
  readonly filter: string;
  /** Few-shot examples in a prompt; null for a group whose tasks differ in it. */
  readonly shots: number | null;
  readonly higherIsBetter: boolean;
  readonly value: number;
  /** null: the metric has none. */
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
