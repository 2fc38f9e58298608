/**
 * The texts that an evaluation on tasks gives to a model. With these texts, a machine that has no task files can compute
 * the answers of the model.
 */
import { z } from 'zod';
import { countItems, decodeCbor, encodeCbor } from '../../../protocol/cbor.ts';
import { QUESTION_ITEMS, QUESTIONS_BYTES } from '../../../protocol/limits.ts';
import { evaluateError } from '../errors.ts';
import type { Task } from '../tasks/task.ts';

/** Maximum number of tasks. Groups of tasks have up to a few hundred tasks. */
export const MAX_TASKS = 1000;
/** Maximum number of stop strings. Task files name a few. */
const MAX_UNTIL = 1000;

const taskQuestionsSchema = z.discriminatedUnion('kind', [
  /** Asks for the log-probability of each continuation after its context. The text of a context is sent only once. */
  z.strictObject({
    kind: z.literal('continuations'),
    contexts: z.array(z.tuple([z.string(), z.array(z.string()).min(1)])),
  }),
  /** Asks for the log-probability of each whole text. */
  z.strictObject({ kind: z.literal('texts'), texts: z.array(z.string()) }),
  /** Asks for a greedy continuation of each prompt. */
  z.strictObject({
    kind: z.literal('prompts'),
    until: z.array(z.string()).max(MAX_UNTIL),
    maxTokens: z.int().positive(),
    prompts: z.array(z.string()),
  }),
]);
/** The questions of one task. */
export type TaskQuestions = z.infer<typeof taskQuestionsSchema>;

export const questionsSchema = z.strictObject({ tasks: z.array(taskQuestionsSchema).min(1).max(MAX_TASKS) });
/** The questions of all tasks of an evaluation, in the order of the tasks. */
export type Questions = z.infer<typeof questionsSchema>;

/**
 * Encodes the questions of tasks.
 * @throws SwarmError TASK_TOO_LARGE for more than QUESTIONS_BYTES bytes or QUESTION_ITEMS values
 */
export function encodeQuestions(tasks: readonly Pick<Task, 'config' | 'texts'>[]): Uint8Array {
  const bytes = encodeCbor({ tasks: tasks.map(questionsOf) } satisfies Questions);
  if (bytes.byteLength <= QUESTIONS_BYTES) {
    const items = countItems(bytes);
    if (items <= QUESTION_ITEMS) return bytes;
    throw evaluateError(
      'TASK_TOO_LARGE',
      `the questions of the tasks have ${items} values, but at most ${QUESTION_ITEMS} can be sent`,
      { items, limit: QUESTION_ITEMS },
    );
  }
  throw evaluateError(
    'TASK_TOO_LARGE',
    `the questions of the tasks have ${bytes.byteLength} bytes, but at most ${QUESTIONS_BYTES} can be sent`,
    { bytes: bytes.byteLength, limit: QUESTIONS_BYTES },
  );
}

/** @throws SwarmError MESSAGE_* */
export function decodeQuestions(bytes: Uint8Array): Questions {
  return decodeCbor(bytes, questionsSchema, QUESTIONS_BYTES, QUESTION_ITEMS);
}

function questionsOf({ config, texts }: Pick<Task, 'config' | 'texts'>): TaskQuestions {
  const all = texts.flat();
  switch (config.outputType) {
    case 'generate_until': {
      const { until, maxTokens } = config.generation;
      return { kind: 'prompts', until: [...until], maxTokens, prompts: all.map(([prompt]) => prompt) };
    }
    case 'loglikelihood_rolling':
      return { kind: 'texts', texts: all.map(([text]) => text) };
    default: {
      const contexts: [string, string[]][] = [];
      for (const [context, continuation = ''] of all) {
        const last = contexts.at(-1);
        if (last?.[0] === context) last[1].push(continuation);
        else contexts.push([context, [continuation]]);
      }
      return { kind: 'continuations', contexts };
    }
  }
}
