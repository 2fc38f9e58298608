/** Groups of tasks: files with the key `group`, whose figures are means over the figures of their tasks. */
import { access } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { TaskFigures } from './task-figures.ts';
import type { TaskFile } from './task-file.ts';

/** A figure of a group: the mean of a metric over the tasks of the group. */
interface GroupMetric {
  readonly metric: string;
  /** Names of filters; null for all filters of the tasks. */
  readonly filters: readonly string[] | null;
  /** Whether the weight of a task in the mean is its number of documents. If false, all tasks have the same weight. */
  readonly weightBySize: boolean;
}

export interface GroupConfig {
  readonly name: string;
  readonly alias: string;
  readonly version: unknown;
  /** Paths of the task files. */
  readonly files: readonly string[];
  readonly metrics: readonly GroupMetric[];
}

const KNOWN = ['group', 'group_alias', 'task', 'aggregate_metric_list', 'metadata'];
const LIST = 'aggregate_metric_list';

/** Reads a group. Its tasks are files in the same folder: `name` stands for `name.yaml`. @throws TASK_FILE, TASK_UNSUPPORTED */
export async function parseGroup(file: TaskFile): Promise<GroupConfig> {
  const get = (key: string): unknown => file.entries.get(key)?.value ?? null;
  for (const key of file.entries.keys()) {
    if (!KNOWN.includes(key)) throw file.unsupported(key, `the key ${key} of a group`);
  }
  const name = get('group');
  if (typeof name !== 'string') throw file.wrong('group', 'must be a name');
  const tasks = get('task');
  const list: unknown[] = Array.isArray(tasks) ? tasks : [tasks];
  const alias = get('group_alias');
  return {
    name,
    alias: typeof alias === 'string' ? alias : name,
    version: (get('metadata') as { version?: unknown } | null)?.version ?? 'N/A',
    files: await Promise.all(list.map((task) => taskPath(task, file))),
    metrics: parseMetrics(get(LIST), file),
  };
}

async function taskPath(task: unknown, file: TaskFile): Promise<string> {
  if (typeof task !== 'string') throw file.unsupported('task', 'a task of a group with additional keys');
  for (const name of [task, `${task}.yaml`, `${task.replaceAll('_', '-')}.yaml`]) {
    const path = resolve(dirname(file.path), name);
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (exists) return path;
  }
  throw file.wrong('task', `names ${task}, but the folder of the group has no file ${task}.yaml`);
}

function parseMetrics(value: unknown, file: TaskFile): GroupMetric[] {
  if (value === null) return [];
  return (Array.isArray(value) ? value : [value]).map((item: unknown) => {
    const {
      metric,
      filter_list,
      aggregation = 'mean',
      weight_by_size = true,
      ...rest
    } = (item ?? {}) as Record<string, unknown>;
    const unknown = Object.keys(rest)[0];
    if (unknown !== undefined) throw file.unsupported(LIST, `the key ${unknown} of ${LIST}`);
    if (typeof metric !== 'string') throw file.wrong(LIST, 'has an item without the name of a metric');
    if (aggregation !== 'mean')
      throw file.unsupported(LIST, `the aggregation ${String(aggregation)} of a group`);
    const filters =
      filter_list === undefined || filter_list === null ? null : [filter_list].flat().map(String);
    return { metric, filters, weightBySize: weight_by_size !== false };
  });
}

/** Returns the figures of a group, which are the means of the figures of its tasks. */
export function groupFigures(group: GroupConfig, tasks: readonly TaskFigures[]): TaskFigures {
  const figures: Record<string, number | string> = {};
  for (const { metric, filters, weightBySize } of group.metrics) {
    for (const filter of filters ?? filtersOf(metric, tasks)) {
      const [key, errorKey] = [`${metric},${filter}`, `${metric}_stderr,${filter}`];
      const found = tasks.filter((task) => typeof task[key] === 'number');
      if (found.length === 0) continue;
      const sizes = found.map(({ sample_len }) => (weightBySize ? sample_len : 1));
      const total = sizes.reduce((sum, size) => sum + size, 0);
      figures[key] = found.reduce((sum, task, i) => sum + (task[key] as number) * sizes[i]!, 0) / total;
      const errors = found.map((task) => task[errorKey]);
      figures[errorKey] = errors.every((error) => typeof error === 'number')
        ? weightBySize
          ? pooledError(errors, sizes)
          : Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0)) / errors.length
        : 'N/A';
    }
  }
  const sample_len = tasks.reduce((sum, task) => sum + task.sample_len, 0);
  return { name: group.name, alias: group.alias, sample_len, ...figures };
}

function filtersOf(metric: string, tasks: readonly TaskFigures[]): string[] {
  const keys = tasks.flatMap((task) => Object.keys(task)).filter((key) => key.startsWith(`${metric},`));
  return [...new Set(keys.map((key) => key.slice(metric.length + 1)))].sort();
}

/**
 * Returns the standard error of a mean over the documents of several tasks. It is computed from the pooled variance of
 * the tasks, as in lm-evaluation-harness.
 */
export function pooledError(errors: readonly number[], sizes: readonly number[]): number {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const variance =
    errors.reduce((sum, error, i) => sum + (sizes[i]! - 1) * error * error * sizes[i]!, 0) /
    (total - sizes.length);
  return Math.sqrt(variance / total);
}
