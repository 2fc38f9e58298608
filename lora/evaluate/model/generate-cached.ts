/** Continues many prompts greedily, with a cache of keys and values. */
import type { ModelBundle } from '../model-bundle.ts';
import { openDecodeSession } from './decode-session.ts';
import { generateTexts, type TokenPrompt, withoutStop } from './generate-texts.ts';
import type { ModelOptions } from './language-model.ts';

/** Returns the answers, without the stop string that ended an answer. */
export async function answersOf(
  bundle: ModelBundle,
  prompts: readonly TokenPrompt[],
  options: ModelOptions = {},
): Promise<string[]> {
  const context = prompts.reduce((most, { ids, maxTokens }) => Math.max(most, ids.length + maxTokens), 0);
  const session = openDecodeSession(bundle, context, prompts.length);
  if (session === null) return generateTexts(bundle, prompts, options);
  const { onProgress, signal } = options;
  const { tokenizer } = bundle;
  const ends = tokenizer.eosId === null ? [] : [tokenizer.eosId];
  let done = 0;
  const answer = async ({ ids, until, maxTokens }: TokenPrompt): Promise<string> => {
    const stopped = new AbortController();
    const both = signal === undefined ? stopped.signal : AbortSignal.any([signal, stopped.signal]);
    const generated: number[] = [];
    let text = '';
    const request = {
      tokens: ids,
      adapter: session.adapter,
      sampling: {},
      maxTokens,
      endTokens: ends,
      logprobs: null,
      client: '',
    };
    try {
      await session.scheduler.generate(
        request,
        ({ id }) => {
          if (ends.includes(id)) return;
          generated.push(id);
          text = tokenizer.decode(generated);
          if (until.some((end) => end !== '' && text.includes(end))) stopped.abort();
        },
        both,
      );
    } catch (error) {
      if (!stopped.signal.aborted || signal?.aborted) throw error;
    }
    onProgress?.(++done);
    return withoutStop(text, until);
  };
  try {
    return await Promise.all(prompts.map(answer));
  } finally {
    await session.dispose();
  }
}
