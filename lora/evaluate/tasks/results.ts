/** Results in the form of lm-evaluation-harness's `results.json`. */

import { evaluateError } from '../errors.ts';
import { aggregate } from '../metrics/aggregate.ts';
import { standardError } from '../metrics/standard-error.ts';
import { type GroupConfig, groupFigures } from './group.ts';
import { type DocumentResult, type Task, valuesOf } from './task.ts';
import type { TaskFigures } from './task-figures.ts';

/** The results of one model, with the keys of lm-evaluation-harness 0.4.13. */
export interface TaskResults {
  readonly results: Readonly<Record<string, TaskFigures>>;
  /** Figures of the groups that report means over their tasks. `results` contains these figures too. */
  readonly groups?: Readonly<Record<string, TaskFigures>>;
  readonly group_subtasks: Readonly<Record<string, readonly string[]>>;
  readonly configs: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly versions: Readonly<Record<string, unknown>>;
  readonly 'n-shot': Readonly<Record<string, number>>;
  readonly higher_is_better: Readonly<Record<string, Readonly<Record<string, boolean>>>>;
  readonly 'n-samples': Readonly<Record<string, { readonly original: number; readonly effective: number }>>;
}

/** A task with the results of its documents. */
export interface EvaluatedTask {
  readonly task: Task;
  readonly documents: readonly DocumentResult[];
}

/** A group with the names of its tasks. */
export interface TaskGroup {
  readonly config: GroupConfig;
  readonly tasks: readonly string[];
}

/**
 * Aggregates the results of a model.
 * @param pause lets other work run between the steps of a bootstrap; throws in order to abort
 */
export async function resultsOf(
  evaluated: readonly EvaluatedTask[],
  groups: readonly TaskGroup[],
  pause: () => Promise<void>,
): Promise<TaskResults> {
  const results: Record<string, TaskFigures> = {};
  for (const { task, documents } of evaluated)
    results[task.config.name] = await figuresOf(task, documents, pause);
  const means: Record<string, TaskFigures> = {};
  for (const { config, tasks } of groups) {
    const figures = groupFigures(
      config,
      tasks.map((task) => results[task]!),
    );
    results[config.name] = figures;
    if (config.metrics.length > 0) means[config.name] = figures;
  }
  const sorted = <T>(entries: readonly (readonly [string, T])[]): Record<string, T> =>
    Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
  const byName = <T>(value: (task: Task) => T): Record<string, T> =>
    sorted(evaluated.map(({ task }) => [task.config.name, value(task)] as const));
  const ofGroups = <T>(value: (tasks: readonly Task[]) => T | undefined) =>
    groups.flatMap(({ config, tasks }) => {
      const members = evaluated.map(({ task }) => task).filter((task) => tasks.includes(task.config.name));
      const found = value(members);
      return found === undefined ? [] : [[config.name, found] as const];
    });
  return {
    results,
    ...(Object.keys(means).length > 0 && { groups: means }),
    group_subtasks: Object.fromEntries(groups.map(({ config, tasks }) => [config.name, tasks])),
    configs: byName(({ config }) => ({
      ...config.file.plain(),
      task: config.name,
      output_type: config.outputType,
    })),
    versions: sorted([
      ...Object.entries(byName(({ config }) => config.version)),
      ...groups.map(({ config }) => [config.name, config.version] as const),
    ]),
    'n-shot': sorted([...Object.entries(byName(shotsOf)), ...ofGroups(commonShots)]),
    higher_is_better: sorted([
      ...Object.entries(byName((task) => directionsOf([task]))),
      ...ofGroups(directionsOf),
    ]),
    'n-samples': byName((task) => ({ original: task.total, effective: task.documents })),
  };
}

function shotsOf({ config }: Task): number {
  return config.fewshot.count;
}

/** Returns the number of few-shot examples if it is the same in all tasks, else undefined. */
function commonShots(tasks: readonly Task[]): number | undefined {
  return new Set(tasks.map(shotsOf)).size === 1 ? shotsOf(tasks[0]!) : undefined;
}

function directionsOf(tasks: readonly Task[]): Record<string, boolean> {
  return Object.fromEntries(
    tasks.flatMap(({ config }) => config.metrics.map(({ name, higherIsBetter }) => [name, higherIsBetter])),
  );
}

async function figuresOf(
  { config, documents: count }: Task,
  documents: readonly DocumentResult[],
  pause: () => Promise<void>,
): Promise<TaskFigures> {
  const figures: Record<string, number | string> = {};
  for (const { name: filter } of config.filters) {
    for (const { name, aggregation } of config.metrics) {
      const values = valuesOf(documents, name, filter);
      try {
        figures[`${name},${filter}`] = aggregate(aggregation, values);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw evaluateError(
          'TASK_DOCUMENT',
          `${config.name}: ${error.message}`,
          { task: config.name },
          { cause: error },
        );
      }
      figures[`${name}_stderr,${filter}`] = (await standardError(aggregation, values, pause)) ?? 'N/A';
    }
  }
  return { name: config.name, alias: config.alias, sample_len: count, ...figures };
}
