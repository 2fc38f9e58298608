import { resolve } from 'node:path';
import type { TaskProgress } from '../../index.ts';
import type { Context } from '../context.ts';
import { type ModelFlags, openModelBundle } from '../model-options.ts';
import { ProgressLine, percentDone, printJson, printLines } from '../print.ts';
import { taskTable } from '../views/tasks.ts';

export interface TaskFlags extends ModelFlags {
  tasks: string[];
  limit?: number;
  maxLength?: number;
  json?: boolean;
}

/** Evaluates a model on task files. */
export async function evaluateOnTasks(context: Context, options: TaskFlags): Promise<void> {
  const { evaluateTasks } = await import('../../index.ts');
  const { signal, cwd } = context;
  const bundle = await openModelBundle(context, options);
  const line = new ProgressLine(context);
  try {
    const { figures } = await evaluateTasks(bundle, {
      tasks: options.tasks.map((path) => resolve(cwd, path)),
      limit: options.limit,
      maxLength: options.maxLength,
      onProgress: ({ task, done, total }: TaskProgress) =>
        line.update(`${task}  ${done} of ${total} requests  ${percentDone(done, total)}`),
      signal,
    });
    line.clear();
    if (options.json) printJson(context, { schemaVersion: 1, ...figures });
    else printLines(context, taskTable(figures));
  } finally {
    line.clear();
  }
}
