/** The two ways to score and to generate give the same results: with a cache of keys and values, and without. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { languageModelOf } from '../../../../lora/evaluate/model/bundle-model.ts';
import type { LanguageModel } from '../../../../lora/evaluate/model/language-model.ts';
import type { ModelBundle } from '../../../../lora/evaluate/model-bundle.ts';
import { tinyDeps } from '../../../utils/models/tiny-trainer.ts';

let dir: string;
let cached: LanguageModel;
let plain: LanguageModel;
let bundle: ModelBundle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'language-model-'));
  bundle = { ...(await tinyDeps(dir)), adapter: null };
  const { name, compile } = bundle.engine;
  cached = languageModelOf(bundle);
  plain = languageModelOf({ ...bundle, engine: { name, compile: compile.bind(bundle.engine) } });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const LONG = 'it was the best of times, it was the worst of times, it was the age of wisdom and ';

it('scores continuations of shared contexts like separate ones', async () => {
  const requests = [' it', ' the', ' was the', '', ' foolishness'].map((word) => ({
    context: word === '' ? '' : LONG,
    continuation: word === '' ? 'it was' : word,
  }));
  const [first, second] = [await cached.likelihoods(requests), await plain.likelihoods(requests)];
  for (const [i, { logLikelihood, isGreedy }] of first.entries()) {
    expect(logLikelihood).toBeCloseTo(second[i]!.logLikelihood, 4);
    expect(isGreedy).toBe(second[i]!.isGreedy);
    expect(logLikelihood).toBeLessThan(0);
  }
});

it('scores continuations of a context that is too long for the model', async () => {
  const requests = [' it', ' the'].map((continuation) => ({ context: LONG.repeat(20), continuation }));
  const [first, second] = [await cached.likelihoods(requests), await plain.likelihoods(requests)];
  for (const [i, { logLikelihood }] of first.entries()) {
    expect(logLikelihood).toBeCloseTo(second[i]!.logLikelihood, 4);
  }
});

it('scores a whole text as the sum of its windows, each token once', async () => {
  const text = LONG.repeat(3);
  const [whole] = await plain.rollingLikelihoods([text]);
  const [cut] = await languageModelOf(bundle, 16).rollingLikelihoods([text]);
  expect(cut).toBeLessThan(0);
  expect(cut).not.toBeCloseTo(whole!, 1);
});

it('generates the same answers with and without a cache, and stops at a text', async () => {
  const prompts = ['it was', `${LONG}it`, 'the'].map((prompt) => ({
    prompt,
    until: [] as string[],
    maxTokens: 6,
  }));
  const answers = await cached.generate(prompts);
  expect(await plain.generate(prompts)).toEqual(answers);
  const end = answers[0]!.slice(2, 4);
  const stopped = prompts.map((prompt) => ({ ...prompt, until: [end] }));
  const expected = answers.map((answer) => answer.split(end)[0]);
  expect(await cached.generate(stopped)).toEqual(expected);
  expect(await plain.generate(stopped)).toEqual(expected);
});

it('aborts', async () => {
  const signal = AbortSignal.abort(new Error('enough'));
  const request = { prompt: 'it was', until: [], maxTokens: 4 };
  await expect(cached.generate([request], { signal })).rejects.toThrow('enough');
  await expect(plain.generate([request], { signal })).rejects.toThrow('enough');
  await expect(plain.likelihoods([{ context: 'it', continuation: ' was' }], { signal })).rejects.toThrow(
    'enough',
  );
});

it('refuses a continuation longer than the context, and answers longer than it', async () => {
  const short = languageModelOf(bundle, 8);
  await expect(short.likelihoods([{ context: 'it', continuation: LONG }])).rejects.toMatchObject({
    code: 'TASK_DOCUMENT',
  });
  await expect(short.generate([{ prompt: 'it', until: [], maxTokens: 8 }])).rejects.toMatchObject({
    code: 'TASK_DOCUMENT',
  });
  // A context that is too long is no error: it loses its beginning.
  const [last] = await short.likelihoods([{ context: LONG, continuation: ' it' }]);
  expect(last!.logLikelihood).toBeLessThan(0);
});
