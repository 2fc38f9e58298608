/** Results in the form of lm-evaluation-harness's `results.json`. */

import { evaluateError } from '../errors.ts';
import { aggregate } from '../metrics/aggregate.ts';
import { standardError } from '../metrics/standard-error.ts';
import { type DocumentResult, type Task, valuesOf } from './task.ts';

/** Values of a task by `metric,filter`, with their standard errors under `metric_stderr,filter`. */
export interface TaskFigures {
  readonly name: string;
  readonly alias: string;
  readonly sample_len: number;
  readonly [key: string]: number | string;
}

/** The results of one model, with the keys of lm-evaluation-harness 0.4.13. */
export interface TaskResults {
  readonly results: Readonly<Record<string, TaskFigures>>;
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

/**
 * Aggregates the results of a model.
 * @param pause lets other work run between the steps of a bootstrap; throws in order to abort
 */
export async function resultsOf(
  evaluated: readonly EvaluatedTask[],
  pause: () => Promise<void>,
): Promise<TaskResults> {
  const results: Record<string, TaskFigures> = {};
  for (const { task, documents } of evaluated)
    results[task.config.name] = await figuresOf(task, documents, pause);
  const byName = <T>(value: (task: Task) => T): Record<string, T> =>
    Object.fromEntries(
      evaluated
        .map(({ task }) => [task.config.name, value(task)] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  return {
    results,
    group_subtasks: {},
    configs: byName(({ config }) => ({
      ...config.file.plain(),
      task: config.name,
      output_type: config.outputType,
    })),
    versions: byName(({ config }) => config.version),
    'n-shot': byName(({ config }) => config.fewshot.count),
    higher_is_better: byName(({ config }) =>
      Object.fromEntries(config.metrics.map(({ name, higherIsBetter }) => [name, higherIsBetter])),
    ),
    'n-samples': byName((task) => ({ original: task.total, effective: task.documents })),
  };
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
