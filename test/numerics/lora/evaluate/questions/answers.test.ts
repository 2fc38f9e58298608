import { expect, test } from 'vitest';
import type { LanguageModel } from '../../../../../lora/evaluate/model/language-model.ts';
import {
  answeredModel,
  answerQuestions,
  decodeAnswers,
  encodeAnswers,
} from '../../../../../lora/evaluate/questions/answers.ts';
import { decodeQuestions, encodeQuestions } from '../../../../../lora/evaluate/questions/questions.ts';
import type { Task } from '../../../../../lora/evaluate/tasks/task.ts';
import { countItems, encodeCbor } from '../../../../../protocol/cbor.ts';
import { ANSWERS_BYTES, QUESTION_ITEMS, QUESTIONS_BYTES } from '../../../../../protocol/limits.ts';
import { withCode } from '../../../../utils/source/codes.ts';

type Asked = Pick<Task, 'config' | 'texts'>;

/** A task whose documents have these texts. */
function task(outputType: string, texts: Task['texts']): Asked {
  return { config: { outputType, generation: { until: ['\n'], maxTokens: 7 } }, texts } as unknown as Asked;
}

const choices = task('multiple_choice', [
  [
    ['2 + 2 =', ' 4'],
    ['2 + 2 =', ' 5'],
  ],
  [['', ' 4']],
]);
const rolling = task('loglikelihood_rolling', [[['a whole text']]]);
const prompts = task('generate_until', [[['Once']], [['Twice']]]);

/** Answers with the lengths of the texts. */
const model: LanguageModel = {
  likelihoods: async (requests) =>
    requests.map(({ context, continuation }) => ({
      logLikelihood: -context.length - continuation.length / 8,
      isGreedy: continuation === ' 4',
    })),
  rollingLikelihoods: async (texts) => texts.map(({ length }) => -length),
  generate: async (requests) =>
    requests.map(({ prompt, until, maxTokens }) => [prompt, ...until, maxTokens].join()),
};

test('questions keep the texts, the ends and the number of tokens; a shared context is sent once', () => {
  expect(decodeQuestions(encodeQuestions([choices, rolling, prompts])).tasks).toEqual([
    {
      kind: 'continuations',
      contexts: [
        ['2 + 2 =', [' 4', ' 5']],
        ['', [' 4']],
      ],
    },
    { kind: 'texts', texts: ['a whole text'] },
    { kind: 'prompts', until: ['\n'], maxTokens: 7, prompts: ['Once', 'Twice'] },
  ]);
});

test('a model that repeats decoded answers answers as the model that made them', async () => {
  const questions = decodeQuestions(encodeQuestions([choices, rolling, prompts]));
  const progress: number[] = [];
  const answers = await answerQuestions(model, questions, {
    onProgress: (done, total) => progress.push(done, total),
  });
  expect(progress).toEqual([0, 6, 3, 6, 4, 6]);
  const repeated = answeredModel(decodeAnswers(encodeAnswers(answers)));
  const requests = choices.texts.flat().map(([context, continuation = '']) => ({ context, continuation }));
  expect(await repeated.likelihoods(requests)).toEqual(await model.likelihoods(requests));
  expect(await repeated.rollingLikelihoods(['a whole text'])).toEqual([-12]);
  const asked = ['Once', 'Twice'].map((prompt) => ({ prompt, until: ['\n'], maxTokens: 7 }));
  expect(await repeated.generate(asked)).toEqual(await model.generate(asked));
});

test.each([
  ['too few answers', [[{ logLikelihood: -1, isGreedy: true }]]],
  ['answers of another kind', [[-1, -2]]],
  ['no answers for the task', []],
])('%s are refused', async (_name, tasks) => {
  const two = Array(2).fill({ context: '', continuation: ' 4' });
  await expect(answeredModel({ tasks }).likelihoods(two)).rejects.toMatchObject({ code: 'TASK_ANSWERS' });
});

test('questions and answers that are too large are refused at both ends', () => {
  const large = task('loglikelihood_rolling', [[['a'.repeat(QUESTIONS_BYTES)]]]);
  expect(() => encodeQuestions([large])).toThrow(withCode('TASK_TOO_LARGE'));
  expect(() => decodeQuestions(new Uint8Array(QUESTIONS_BYTES + 1))).toThrow(withCode('MESSAGE_TOO_LARGE'));
  expect(() => encodeAnswers({ tasks: [['a'.repeat(ANSWERS_BYTES)]] })).toThrow(withCode('TASK_ANSWERS'));
  expect(() => decodeAnswers(new Uint8Array(ANSWERS_BYTES + 1))).toThrow(withCode('MESSAGE_TOO_LARGE'));
});

test('a single answer has a limit, and infinite log-probabilities are refused', () => {
  const long = encodeAnswers({ tasks: [['a'.repeat(300_000)]] });
  expect(() => decodeAnswers(long)).toThrow(withCode('MESSAGE_INVALID'));
  expect(() => encodeAnswers({ tasks: [[-Infinity]] })).toThrow();
});

test('questions and answers with very many tiny values are refused before they are decoded', () => {
  // Encoded as CBOR, a context with one continuation has four values. So these questions have too many values.
  const many = Array.from({ length: QUESTION_ITEMS / 4 }, (_, i) => [[i % 2 ? 'a' : 'b', '']] as const);
  expect(() => encodeQuestions([task('multiple_choice', many)])).toThrow(withCode('TASK_TOO_LARGE'));
  // In CBOR, each byte 0 is an integer, so these bytes hold more values than are allowed.
  expect(() => decodeQuestions(new Uint8Array(QUESTION_ITEMS + 1))).toThrow(withCode('MESSAGE_TOO_LARGE'));
  const answer = { logLikelihood: -(2 ** -9), isGreedy: true };
  const answers = encodeAnswers({ tasks: [[answer, answer], ['a text'], [-300]] });
  expect(decodeAnswers(answers, 4).tasks).toHaveLength(3);
  const wrong = encodeAnswers({ tasks: [new Array<number>(2000).fill(0)] });
  expect(() => decodeAnswers(wrong, 4)).toThrow(withCode('MESSAGE_TOO_LARGE'));
});

test('values are counted without being decoded', () => {
  const long = 'x'.repeat(70_000);
  const value = {
    a: [0, 24, 300, 70_000, -(2 ** 40), 1.5],
    b: [long, 'y'.repeat(300), new Uint8Array(30), null],
  };
  // The value has one object, two keys, two arrays, six numbers, and four other values.
  expect(countItems(encodeCbor(value))).toBe(15);
  expect(countItems(Buffer.from('9bffffffffffffffff00', 'hex'))).toBe(2);
  expect(countItems(Buffer.from('8200ff00', 'hex'))).toBe(2);
});
