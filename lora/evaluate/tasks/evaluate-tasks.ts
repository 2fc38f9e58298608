/** Evaluates models on task files, as `lora-swarm evaluate --tasks` does. */
import { nextTurn } from '../../../common/abort-reason.ts';
import { type Comparison, compare } from '../compare/compare.ts';
import { evaluateError } from '../errors.ts';
import { languageModelOf } from '../model/bundle-model.ts';
import type { LanguageModel } from '../model/language-model.ts';
import type { ModelBundle } from '../model-bundle.ts';
import { parseGroup } from './group.ts';
import { type EvaluatedTask, resultsOf, type TaskGroup, type TaskResults } from './results.ts';
import { Task } from './task.ts';
import { TaskFile } from './task-file.ts';

/** Progress of an evaluation. */
export interface TaskProgress {
  readonly task: string;
  /** Whether the model that is being evaluated is the one given as `against`. */
  readonly isAgainst: boolean;
  /** Number of completed requests of the task. A request is a continuation, a text or a prompt. */
  readonly done: number;
  /** Number of all requests of the task. */
  readonly total: number;
}

/** Task files, and settings of their evaluation. */
export interface EvaluateTasksOptions {
  /** Files of tasks and groups in lm-evaluation-harness's YAML, see docs/evaluation.md. */
  readonly tasks: readonly string[];
  /** Another model, which is evaluated on the same documents and compared with the first one. @default none */
  readonly against?: ModelBundle | undefined;
  /** Number of documents of each task to evaluate, counted from the first document. @default all documents */
  readonly limit?: number | undefined;
  /** Maximum length of an input in tokens. Longer prompts lose their beginning. @default the model's context */
  readonly maxLength?: number | undefined;
  /** Called with the number of computed requests, as this number grows. @default does nothing */
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

/** The results of a model, and its comparison with another model. */
export interface TaskEvaluation extends ModelEvaluation {
  /** Results of the model that the option `against` names; null without this option. */
  readonly against: ModelEvaluation | null;
  /** Differences between the two models with their 95 % intervals; null without the option `against`. */
  readonly comparison: Comparison | null;
}

/** Tasks with their documents, and the groups of these tasks. */
export interface LoadedTasks {
  readonly tasks: readonly Task[];
  readonly groups: readonly TaskGroup[];
}

/**
 * Reads the files of tasks and groups, and the documents. The loaded tasks can then be evaluated on several models.
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, DATA_*; the signal's reason
 */
export async function loadTasks({ tasks: paths, limit, signal }: EvaluateTasksOptions): Promise<LoadedTasks> {
  const tasks = new Map<string, Task>();
  const groups: TaskGroup[] = [];
  const names = new Set<string>();
  const add = (name: string, path: string): void => {
    if (names.has(name)) {
      throw evaluateError(
        'TASK_FILE',
        `${path}: the name ${name} is also the name of a task or group in another file`,
        {
          file: path,
          task: name,
        },
      );
    }
    names.add(name);
  };
  const load = async (file: TaskFile): Promise<string> => {
    const known = tasks.get(file.path);
    if (known !== undefined) return known.config.name;
    const task = await Task.load(file, { limit, signal });
    add(task.config.name, file.path);
    tasks.set(file.path, task);
    return task.config.name;
  };
  for (const path of paths) {
    const file = await TaskFile.read(path);
    if (!file.entries.has('group')) {
      await load(file);
      continue;
    }
    const config = await parseGroup(file);
    add(config.name, file.path);
    const members: string[] = [];
    for (const member of config.files) members.push(await load(await TaskFile.read(member)));
    groups.push({ config, tasks: members });
  }
  return { tasks: [...tasks.values()], groups };
}

/** Evaluates one model on loaded tasks. @throws SwarmError TASK_DOCUMENT, ENGINE_*; the signal's reason */
export async function runTasks(
  { tasks, groups }: LoadedTasks,
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
  return { figures: await resultsOf(evaluated, groups, () => nextTurn(signal)), evaluated };
}

/**
 * Evaluates a model on task files. If `against` names another model, evaluates that model too, and compares the two.
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
