import type { SwarmError } from '../../../common/errors.ts';
import type { ProgressOf } from '../../../common/workers/calls.ts';
import { ChildCalls, type ChildEnd } from '../../../common/workers/child-process.ts';
import { entryOf } from '../../../common/workers/entry.ts';
import { graphProcessEnvironment } from '../../engines/allocator.ts';
import { evaluateError } from '../errors.ts';
import type {
  AnswerProgress,
  AnswerRequest,
  CheckedFigures,
  CheckRequest,
  FlatFigures,
  QuestionsRequest,
  SampleRequest,
  Samples,
  TaskProcessMethods,
  TaskProcessRequest,
} from './messages.ts';

/**
 * Evaluates an adapter on tasks, in a process that ends afterwards.
 * @throws SwarmError TASK_*, DATA_*, MODEL_*, ADAPTER_*, ENGINE_*, TASKS_DIED; the signal's reason
 */
export function evaluateInProcess(
  request: TaskProcessRequest,
  options: TaskProcessOptions,
): Promise<FlatFigures> {
  return callOnce('evaluate', request, options);
}

/**
 * Generates samples with an adapter, in a process that ends afterwards.
 * @throws SwarmError MODEL_*, ADAPTER_*, ENGINE_*, TASKS_DIED; the signal's reason
 */
export function sampleInProcess(request: SampleRequest, options: TaskProcessOptions): Promise<Samples> {
  return callOnce('sample', request, options);
}

/**
 * Returns the encoded questions of tasks. A separate process reads the tasks, because they may have many documents.
 * @throws SwarmError TASK_*, DATA_*, TASKS_DIED; the signal's reason
 */
export function questionsInProcess(
  request: QuestionsRequest,
  options: TaskProcessOptions,
): Promise<Uint8Array> {
  return callOnce('questions', request, options);
}

/**
 * Answers questions with an adapter, in a process that ends afterwards.
 * @returns the encoded answers
 * @throws SwarmError MESSAGE_*, TASK_ANSWERS, MODEL_*, ADAPTER_*, ENGINE_*, TASKS_DIED; the signal's reason
 */
export function answerInProcess(
  request: AnswerRequest,
  options: TaskProcessOptions & { readonly onProgress: (progress: AnswerProgress) => void },
): Promise<Uint8Array> {
  return callOnce('answer', request, options);
}

/**
 * Computes the figures of an adapter from the answers of another machine, and checks a few of these answers.
 * @throws SwarmError TASK_CHANGED, TASK_ANSWERS, MESSAGE_*, TASK_*, DATA_*, MODEL_*, ADAPTER_*, ENGINE_*, TASKS_DIED; the
 * signal's reason
 */
export function checkInProcess(request: CheckRequest, options: TaskProcessOptions): Promise<CheckedFigures> {
  return callOnce('check', request, options);
}

export interface TaskProcessOptions {
  readonly signal: AbortSignal;
  /** Called with each line that the process writes to its standard error. @default the lines are dropped */
  readonly onLog?: (line: string) => void;
}

async function callOnce<N extends keyof TaskProcessMethods>(
  method: N,
  request: TaskProcessMethods[N]['request'],
  {
    signal,
    onLog,
    onProgress,
  }: TaskProcessOptions & { onProgress?: (progress: ProgressOf<TaskProcessMethods[N]>) => void },
): Promise<TaskProcessMethods[N]['reply']> {
  signal.throwIfAborted();
  const child = new ChildCalls<TaskProcessMethods>(entryOf(import.meta, './process'), {
    env: graphProcessEnvironment(),
    ...(onLog && { onLog }),
    ended: died,
  });
  return child.callOnce(method, request, { signal, onProgress });
}

function died({ code, signal, stderr, cause }: ChildEnd): SwarmError {
  const how = signal !== null ? `was killed by ${signal}` : `exited with code ${code}`;
  return evaluateError(
    'TASKS_DIED',
    `the process that evaluates checkpoints ${how}`,
    { code, signal, stderr },
    { cause },
  );
}
