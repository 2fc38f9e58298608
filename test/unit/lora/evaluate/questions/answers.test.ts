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
import { ANSWERS_BYTES, QUESTIONS_BYTES } from '../../../../../protocol/limits.ts';
import { withCode } from '../../../../utils/codes.ts';

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
