/** The answers of a model to questions, as another machine sends them. */
import { z } from 'zod';
import { decodeCbor, encodeCbor } from '../../../protocol/cbor.ts';
import { ANSWERS_BYTES, QUESTION_ITEMS } from '../../../protocol/limits.ts';
import { evaluateError } from '../errors.ts';
import type { LanguageModel } from '../model/language-model.ts';
import type { Response } from '../tasks/task.ts';
import { MAX_TASKS, type Questions, type TaskQuestions } from './questions.ts';

/** Maximum length of an answer in characters. Answers of task files have at most a few thousand characters. */
const ANSWER_CHARACTERS = 256 * 1024;

/** Maximum number of CBOR items of an answer: an object with two keys and two values. */
const ANSWER_ITEMS = 5;
/** Maximum number of CBOR items besides the answers: an object, its key, the list of tasks, and a list for each task. */
const FRAME_ITEMS = 3 + MAX_TASKS;

const answerSchema = z.union([
  z.number(),
  z.string().max(ANSWER_CHARACTERS),
  z.strictObject({ logLikelihood: z.number(), isGreedy: z.boolean() }),
]);
export const answersSchema = z.strictObject({ tasks: z.array(z.array(answerSchema)) });
/** The answers to the questions of each task: likelihoods, log-probabilities of whole texts, or texts. */
export type Answers = z.infer<typeof answersSchema>;

/** @throws SwarmError TASK_ANSWERS for more than ANSWERS_BYTES bytes */
export function encodeAnswers(answers: Answers): Uint8Array {
  const bytes = encodeCbor(answers);
  if (bytes.byteLength <= ANSWERS_BYTES) return bytes;
  const message = `the answers have ${bytes.byteLength} bytes, but at most ${ANSWERS_BYTES} can be sent`;
  throw evaluateError('TASK_ANSWERS', message, { bytes: bytes.byteLength, limit: ANSWERS_BYTES });
}

/**
 * Decodes answers of another machine.
 * @param questions number of questions that the machine was asked. If there are many more answers than questions,
 *   decoding fails, because the answers could take several GiB of memory
 * @throws SwarmError MESSAGE_*
 */
export function decodeAnswers(bytes: Uint8Array, questions = QUESTION_ITEMS): Answers {
  return decodeCbor(bytes, answersSchema, ANSWERS_BYTES, FRAME_ITEMS + ANSWER_ITEMS * questions);
}

/**
 * Answers questions with a model.
 * @param options.onProgress receives the number of answered questions, and the number of all questions
 * @throws SwarmError ENGINE_*; the signal's reason
 */
export async function answerQuestions(
  model: LanguageModel,
  { tasks }: Questions,
  {
    signal,
    onProgress = () => {},
  }: { signal?: AbortSignal | undefined; onProgress?: (done: number, total: number) => void } = {},
): Promise<Answers> {
  const total = tasks.reduce((sum, task) => sum + countOf(task), 0);
  const answers: Response[][] = [];
  let before = 0;
  for (const task of tasks) {
    const options = { signal, onProgress: (done: number) => onProgress(before + done, total) };
    options.onProgress(0);
    answers.push(await answerTask(model, task, options));
    before += countOf(task);
  }
  return { tasks: answers };
}

/** Returns the number of questions of a task. */
function countOf(task: TaskQuestions): number {
  if (task.kind === 'texts') return task.texts.length;
  if (task.kind === 'prompts') return task.prompts.length;
  return task.contexts.reduce((sum, [, continuations]) => sum + continuations.length, 0);
}

async function answerTask(
  model: LanguageModel,
  task: TaskQuestions,
  options: Parameters<LanguageModel['generate']>[1],
): Promise<Response[]> {
  if (task.kind === 'texts') return model.rollingLikelihoods(task.texts, options);
  if (task.kind === 'prompts') {
    const { until, maxTokens, prompts } = task;
    return model.generate(
      prompts.map((prompt) => ({ prompt, until, maxTokens })),
      options,
    );
  }
  const requests = task.contexts.flatMap(([context, continuations]) =>
    continuations.map((continuation) => ({ context, continuation })),
  );
  return model.likelihoods(requests, options);
}

/**
 * Returns a model that gives the answers of another machine. Its methods must be called once for each task, in the order
 * of the tasks. They throw TASK_ANSWERS if the number or the type of the task's answers does not match the requests.
 */
export function answeredModel({ tasks }: Answers): LanguageModel {
  let next = 0;
  const take = <T extends Response>(
    count: number,
    kind: string,
    isOne: (answer: Response) => answer is T,
  ): T[] => {
    const answers = tasks[next++] ?? [];
    if (answers.length === count && answers.every(isOne)) return answers;
    const message = `task ${next} has ${answers.length} answers, expected ${count}, each of them a ${kind}`;
    throw evaluateError('TASK_ANSWERS', message, { task: next, answers: answers.length, needed: count });
  };
  return {
    likelihoods: async ({ length }) => take(length, 'likelihood', (answer) => typeof answer === 'object'),
    rollingLikelihoods: async ({ length }) =>
      take(length, 'log-probability', (answer) => typeof answer === 'number'),
    generate: async ({ length }) => take(length, 'text', (answer) => typeof answer === 'string'),
  };
}
