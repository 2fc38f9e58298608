import { expect, test } from 'vitest';
import { isRight } from '../../../../../coordinator/evaluation/scorer-evaluation.ts';
import type { LanguageModel, Likelihood } from '../../../../../lora/evaluate/model/language-model.ts';
import type { Answers } from '../../../../../lora/evaluate/questions/answers.ts';
import { spotCheck } from '../../../../../lora/evaluate/questions/spot-check.ts';
import type { Response } from '../../../../../lora/evaluate/tasks/task.ts';

const { signal } = new AbortController();

/** A task with one question for each document. Notes the documents about which a model was asked. */
function task(method: 'likelihoods' | 'generate', documents: number) {
  const asked: number[] = [];
  const ask = async (
    model: LanguageModel,
    { documents: chosen }: { documents?: readonly number[] } = {},
  ): Promise<Response[][]> => {
    if (chosen !== undefined) asked.push(...chosen);
    const all = chosen ?? [...Array(documents).keys()];
    const answers = await model[method](all.map((document) => ({ prompt: String(document) })) as never);
    return answers.map((answer) => [answer]);
  };
  return { ask, documents, asked };
}

const own: LanguageModel = {
  likelihoods: async (requests) => requests.map(() => ({ logLikelihood: -4, isGreedy: false })),
  rollingLikelihoods: async () => [],
  generate: async (requests) => requests.map(({ prompt }) => prompt),
};
const likelihoods = (count: number, one: Partial<Likelihood> = {}): Likelihood[] =>
  Array.from({ length: count }, () => ({ logLikelihood: -4, isGreedy: false, ...one }));
const texts = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));

async function check(answers: Answers['tasks'], draws: readonly number[]) {
  const tasks = [task('likelihoods', 6), task('generate', 4)];
  const result = await spotCheck(tasks, { tasks: answers }, own, { draws, signal });
  return { result, asked: tasks.map(({ asked }) => asked) };
}

test('different documents of all tasks are checked, also if the random numbers are equal', async () => {
  const { result, asked } = await check([likelihoods(6), texts(4)], Array(8).fill(0.999));
  expect(asked.flat()).toHaveLength(8);
  expect(new Set(asked[0]).size + new Set(asked[1]).size).toBe(8);
  expect(result).toEqual({ documents: 8, difference: 0, otherChoices: 0 });
  expect(isRight(result, 32)).toBe(true);
});

test('all documents are checked if there are fewer than random numbers', async () => {
  const { result } = await check([likelihoods(6), texts(4)], Array(20).fill(0.5));
  expect(result.documents).toBe(10);
});

test('a wrong log-probability of one checked document is found', async () => {
  const answers = likelihoods(6);
  answers[0] = { logLikelihood: -3, isGreedy: false };
  const { result } = await check([answers, texts(4)], Array(8).fill(0));
  expect(result.difference).toBeCloseTo(1 / 5);
  expect(isRight(result, 32)).toBe(false);
});

test('rounding may change the choice between equally likely tokens in a quarter of the documents', async () => {
  const draws = Array(10).fill(0);
  const one = await check([likelihoods(6), ['0', '1', 'another', 'text']], draws);
  expect(one.result).toMatchObject({ difference: 0, otherChoices: 2 });
  expect(isRight(one.result, 32)).toBe(true);
  const greedy = await check([likelihoods(6, { isGreedy: true }), texts(4)], draws);
  expect(greedy.result).toMatchObject({ difference: 0, otherChoices: 6 });
  expect(isRight(greedy.result, 32)).toBe(false);
});

test('log-probabilities with 8 base bits may differ more, because some engines round activations', () => {
  const check = { documents: 8, difference: 0.03, otherChoices: 0 };
  expect([isRight(check, 32), isRight(check, 8), isRight(check, 4)]).toEqual([false, true, false]);
});

test('answers that are missing end the check', async () => {
  await expect(check([likelihoods(5), texts(4)], [0])).rejects.toMatchObject({ code: 'TASK_ANSWERS' });
});
