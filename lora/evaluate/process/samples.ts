import { readEndTokens } from '../../generate/end-tokens.ts';
import { continueTokens } from '../../generate/generate.ts';
import { type ModelBundle, openModel } from '../model-bundle.ts';
import type { SampleRequest, Samples } from './messages.ts';

/**
 * Sampling of the continuations: the defaults of `lora-swarm generate`. Small models repeat themselves if the most
 * likely token is always taken.
 */
const SAMPLING = { temperature: 0.8, topP: 0.95, seed: 0 };
/**
 * Maximum number of characters of a continuation. The limit on tokens does not bound the text enough, because a
 * vocabulary can contain tokens of hundreds of characters.
 */
const MAX_CHARACTERS = 2_000;

/**
 * Continues prompts with a base and an adapter. If `withBase` is set, also continues them with the base
 * alone. Equal requests give equal texts.
 */
export async function generateSamples(
  { prompts, maxTokens, withBase, ...options }: SampleRequest,
  signal: AbortSignal,
): Promise<Samples> {
  const bundle = await openModel({ ...options, signal });
  const endTokens = await readEndTokens(bundle.model.dir);
  const continueAll = async (model: ModelBundle): Promise<string[]> => {
    const texts: string[] = [];
    for (const prompt of prompts) {
      const { text } = await continueTokens(model, prompt, { ...SAMPLING, maxTokens, endTokens, signal });
      texts.push(text.slice(0, MAX_CHARACTERS).toWellFormed());
    }
    return texts;
  };
  return {
    before: withBase ? await continueAll({ ...bundle, adapter: null }) : null,
    after: await continueAll(bundle),
  };
}
