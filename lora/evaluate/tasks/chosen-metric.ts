import { evaluateError } from '../errors.ts';
import type { LoadedTasks } from './evaluate-tasks.ts';

/** A metric by which checkpoints are compared. */
export interface ChosenMetric {
  /** Name of the metric in the list of figures, such as `questions.exact_match,none`. */
  readonly figure: string;
  readonly higherIsBetter: boolean;
}

/**
 * Finds a metric of tasks or groups.
 * @param name `TASK.METRIC`, such as `questions.exact_match`, or `TASK.METRIC,FILTER`. A name without a
 *   filter means the first filter of the task
 * @throws SwarmError TASK_METRIC if there is no such metric. The values of the error list all metrics of the tasks
 *   and groups
 */
export function chooseMetric(name: string, { tasks, groups }: LoadedTasks): ChosenMetric {
  const known = tasks.flatMap(({ config }) =>
    config.filters.flatMap(({ name: filter }) =>
      config.metrics.map((metric) => ({
        figure: `${config.name}.${metric.name},${filter}`,
        higherIsBetter: metric.higherIsBetter,
      })),
    ),
  );
  const means = groups.flatMap(({ config, tasks: members }) =>
    config.metrics.flatMap(({ metric }) => {
      const one = known.find(({ figure }) => members.some((task) => figure.startsWith(`${task}.${metric},`)));
      return one === undefined
        ? []
        : [
            {
              figure: `${config.name}.${metric},${one.figure.split(',').at(-1)}`,
              higherIsBetter: one.higherIsBetter,
            },
          ];
    }),
  );
  const all = [...known, ...means];
  const found = all.find(({ figure }) => figure === name || figure.startsWith(`${name},`));
  if (found !== undefined) return found;
  const names = all.map(({ figure }) => figure);
  throw evaluateError('TASK_METRIC', `the tasks have no metric ${name}; they have ${names.join(' ')}`, {
    metric: name,
    known: names,
  });
}
