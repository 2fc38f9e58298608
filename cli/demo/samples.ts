import type { ModelBundle } from '../../index.ts';
import type { Context } from '../context.ts';

const PROMPT = 'The captain stood';
const TOKENS = 50;
/** Sampling temperature of the samples. It is low enough for readable text, and high enough to avoid repetition. */
const TEMPERATURE = 0.6;
const TOP_P = 0.9;
const SEED = 7;

/** Generates text without and with the adapter, from the same prompt and the same seed. */
export async function sampleTexts(
  { signal }: Pick<Context, 'signal'>,
  bundle: ModelBundle,
): Promise<{ prompt: string; before: string; after: string }> {
  const { generate } = await import('../../index.ts');
  const options = {
    prompt: PROMPT,
    maxTokens: TOKENS,
    temperature: TEMPERATURE,
    topP: TOP_P,
    seed: SEED,
    signal,
  };
  const before = await generate({ ...bundle, adapter: null }, options);
  const after = await generate(bundle, options);
  return { prompt: PROMPT, before: before.text, after: after.text };
}
