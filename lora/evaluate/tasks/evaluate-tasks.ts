/** Evaluates models on task files, as `swarm evaluate --tasks` does. */
import { evaluateError } from '../errors.ts';
import { languageModelOf } from '../model/bundle-model.ts';
import type { LanguageModel } from '../model/language-model.ts';
import type { ModelBundle } from '../model-bundle.ts';
import { type EvaluatedTask, resultsOf, type TaskResults } from './results.ts';
import { Task } from './task.ts';

/** Progress of an evaluation. */
export interface TaskProgress {
  readonly task: string;
  /** Requests that are done, and all requests of the task. A request is a continuation, a text or a prompt. */
  readonly done: number;
  readonly total: number;
}

/** Task files, and what to evaluate of them. */
export interface EvaluateTasksOptions {
  /** Task files in lm-evaluation-harness's YAML, see docs/evaluation.md. */
  readonly tasks: readonly string[];
  /** Evaluates only the first documents of each task. @default all documents */
  readonly limit?: number | undefined;
  /** Longest input in tokens. Longer prompts lose their beginning. @default the model's context */
  readonly maxLength?: number | undefined;
  readonly onProgress?: (progress: TaskProgress) => void;
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

/** The results of one model. */
export interface TaskEvaluation {
  /** Figures with the keys of lm-evaluation-harness's results.json. */
  readonly figures: TaskResults;
  /** Results of each document. @internal */
  readonly evaluated: readonly EvaluatedTask[];
}

/**
 * Reads the task files and their documents. They can then be evaluated on several models.
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, DATA_*; the signal's reason
 */
export async function loadTasks({ tasks: paths, limit, signal }: EvaluateTasksOptions): Promise<Task[]> {
  const tasks: Task[] = [];
  for (const path of paths) {
    const task = await Task.load(path, { limit, signal });
    const { name, file } = task.config;
    if (tasks.some(({ config }) => config.name === name)) {
      throw evaluateError('TASK_FILE', `${file.path}: another task file has the same task name, ${name}`, {
        file: file.path,
        task: name,
      });
    }
    tasks.push(task);
  }
  return tasks;
}

/** Evaluates one model on loaded tasks. @throws SwarmError TASK_DOCUMENT, ENGINE_*; the signal's reason */
export async function runTasks(
  tasks: readonly Task[],
  model: LanguageModel,
  { onProgress, signal }: Pick<EvaluateTasksOptions, 'onProgress' | 'signal'> = {},
): Promise<TaskEvaluation> {
  const evaluated: EvaluatedTask[] = [];
  for (const task of tasks) {
    const total = task.requests;
    const report = (done: number) => onProgress?.({ task: task.config.name, done, total });
    report(0);
    evaluated.push({ task, documents: await task.evaluate(model, { onProgress: report, signal }) });
  }
  const pause = async (): Promise<void> => {
    await new Promise(setImmediate);
    signal?.throwIfAborted();
  };
  return { figures: await resultsOf(evaluated, pause), evaluated };
}

/**
 * Evaluates a model on task files.
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, DATA_*, ENGINE_*; the signal's reason
 */
export async function evaluateTasks(
  bundle: ModelBundle,
  options: EvaluateTasksOptions,
): Promise<TaskEvaluation> {
  const tasks = await loadTasks(options);
  return runTasks(tasks, languageModelOf(bundle, options.maxLength), options);
}
