import type { ModelBundle } from '../model-bundle.ts';
import { RequestEncoder } from './encode.ts';
import { answersOf } from './generate-cached.ts';
import type { LanguageModel } from './language-model.ts';
import { likelihoodsOf } from './score-shared.ts';
import { scoreWindows } from './score-windows.ts';

/**
 * Wraps an opened model in the interface that tasks use.
 * @param maxLength maximum length of an input in tokens. Default: the model's context
 */
export function languageModelOf(bundle: ModelBundle, maxLength?: number): LanguageModel {
  const limit = Math.min(maxLength ?? bundle.model.config.maxPositions, bundle.model.config.maxPositions);
  const encoder = new RequestEncoder(bundle.tokenizer, limit);
  return {
    likelihoods: async (requests, options) =>
      likelihoodsOf(
        bundle,
        requests.map((request) => encoder.pair(request)),
        options,
      ),
    rollingLikelihoods: async (texts, options = {}) => {
      const windows = texts.map((text) => encoder.windows(text));
      const owners = windows.flatMap((some, text) => some.map(() => text));
      const scores = await scoreWindows(bundle, windows.flat(), options);
      const sums = texts.map(() => 0);
      for (const [i, score] of scores.entries()) sums[owners[i]!]! += score;
      return sums;
    },
    generate: async (requests, options) =>
      answersOf(
        bundle,
        requests.map(({ prompt, until, maxTokens }) => ({
          ids: encoder.prompt(prompt, maxTokens),
          until,
          maxTokens,
        })),
        options,
      ),
  };
}
