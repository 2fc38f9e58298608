/** Evaluates models on task files, as `swarm evaluate --tasks` does. */
import { type Comparison, compare } from '../compare/compare.ts';
import { evaluateError } from '../errors.ts';
import { languageModelOf } from '../model/bundle-model.ts';
import type { LanguageModel } from '../model/language-model.ts';
import type { ModelBundle } from '../model-bundle.ts';
import { type EvaluatedTask, resultsOf, type TaskResults } from './results.ts';
import { Task } from './task.ts';

/** Progress of an evaluation. */
export interface TaskProgress {
  readonly task: string;
  /** Whether the model is the one of `against`. */
  readonly isAgainst: boolean;
  /** Requests that are done, and all requests of the task. A request is a continuation, a text or a prompt. */
  readonly done: number;
  readonly total: number;
}

/** Task files, and what to evaluate of them. */
export interface EvaluateTasksOptions {
  /** Task files in lm-evaluation-harness's YAML, see docs/evaluation.md. */
  readonly tasks: readonly string[];
  /** Another model, which is evaluated on the same documents and compared with the first one. @default none */
  readonly against?: ModelBundle | undefined;
  /** Evaluates only the first documents of each task. @default all documents */
  readonly limit?: number | undefined;
  /** Longest input in tokens. Longer prompts lose their beginning. @default the model's context */
  readonly maxLength?: number | undefined;
  readonly onProgress?: (progress: TaskProgress) => void;
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

/** The results of one model. */
export interface ModelEvaluation {
  /** Figures with the keys of lm-evaluation-harness's results.json. */
  readonly figures: TaskResults;
  /** Results of each document. @internal */
  readonly evaluated: readonly EvaluatedTask[];
}

/** The results of a model, and its comparison with another one. */
export interface TaskEvaluation extends ModelEvaluation {
  /** Results of the model of `against`; null without one. */
  readonly against: ModelEvaluation | null;
  /** Differences with their 95 % intervals; null without `against`. */
  readonly comparison: Comparison | null;
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
  {
    isAgainst = false,
    onProgress,
    signal,
  }: Pick<EvaluateTasksOptions, 'onProgress' | 'signal'> & { isAgainst?: boolean } = {},
): Promise<ModelEvaluation> {
  const evaluated: EvaluatedTask[] = [];
  for (const task of tasks) {
    const total = task.requests;
    const report = (done: number) => onProgress?.({ task: task.config.name, isAgainst, done, total });
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
 * Evaluates a model on task files, and compares it with another one if `against` names one.
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, DATA_*, ENGINE_*; the signal's reason
 */
export async function evaluateTasks(
  bundle: ModelBundle,
  options: EvaluateTasksOptions,
): Promise<TaskEvaluation> {
  const { against: other, maxLength } = options;
  const tasks = await loadTasks(options);
  const model = await runTasks(tasks, languageModelOf(bundle, maxLength), options);
  if (other === undefined) return { ...model, against: null, comparison: null };
  const against = await runTasks(tasks, languageModelOf(other, maxLength), { ...options, isAgainst: true });
  return { ...model, against, comparison: compare(model.evaluated, against.evaluated) };
}
