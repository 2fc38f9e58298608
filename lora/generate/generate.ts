/** Generates text, as `lora-swarm generate` does. */
import { z } from 'zod';
import { nextTurn } from '../../common/abort-reason.ts';
import { checkOptions } from '../../common/schema-problems.ts';
import type { ModelBundle } from '../evaluate/model-bundle.ts';
import { predictorFor } from './predictor.ts';
import { samplingSchema } from './request.ts';
import { Sampler } from './sampling.ts';
import { TextStream } from './text-stream.ts';
import type { Sampling } from './types.ts';

/** The prompt, and how to continue it. */
export interface GenerateOptions extends Sampling {
  /** Beginning of the text. */
  prompt: string;
  /** Maximum number of tokens to generate. @default 100 */
  maxTokens?: number;
  /** Called with each new piece of text. */
  onText?: (piece: string) => void;
  /** @default never aborts */
  signal?: AbortSignal;
}

const optionsSchema = samplingSchema.extend({ prompt: z.string(), maxTokens: z.int().min(0).optional() });

/** A generated text. */
export interface Generated {
  /** The generated text, without special tokens. */
  text: string;
  ids: number[];
  /** 'end': the model ended the text; 'length': `maxTokens` were generated. */
  reason: 'end' | 'length';
}

/**
 * Continues a prompt. The tokenizer's special tokens are added before the prompt. Equal seeds give equal texts. When
 * the text becomes longer than the model's context, the model forgets the beginning of the text: it continues from
 * the last tokens only, which fill half of the context.
 *
 * @throws SwarmError USAGE, ENGINE_*; the signal's reason
 */
export async function generate(bundle: ModelBundle, options: GenerateOptions): Promise<Generated> {
  checkOptions(optionsSchema, options);
  const { tokenizer } = bundle;
  const tokens = [...tokenizer.prefix, ...tokenizer.encode(options.prompt, { special: false })];
  return continueTokens(bundle, tokens, options);
}

/**
 * Works like {@link generate}, but gets the prompt as tokens, with all special tokens.
 * @param options.endTokens token ids that end the text besides the tokenizer's end token. @default none
 */
export async function continueTokens(
  bundle: ModelBundle,
  tokens: readonly number[],
  options: Omit<GenerateOptions, 'prompt'> & { endTokens?: readonly number[] },
): Promise<Generated> {
  const { model, tokenizer } = bundle;
  const { maxTokens = 100, onText = () => {}, signal, endTokens = [] } = options;
  const ends = new Set([tokenizer.eosId, ...endTokens]);
  let context = [...tokens];
  // The model needs at least one token, even with an empty prompt and no beginning-of-text token.
  if (context.length === 0) context = [tokenizer.eosId ?? 0];
  // The graph has tables of positions that grow with the limit, so the limit is no larger than needed.
  const limit = Math.min(model.config.maxPositions, context.length + maxTokens);
  const sampler = new Sampler(options, context);
  const stream = new TextStream(tokenizer);
  const ids: number[] = [];
  let text = '';
  const pass = (piece: string): void => {
    text += piece;
    if (piece !== '') onText(piece);
  };
  let reason: Generated['reason'] = 'length';
  const predictor = predictorFor(bundle, limit);
  try {
    while (ids.length < maxTokens) {
      await nextTurn(signal);
      if (context.length > limit) context = [...tokenizer.prefix, ...context.slice(-Math.ceil(limit / 2))];
      const id = sampler.next(await predictor.next(context));
      if (ends.has(id)) {
        reason = 'end';
        break;
      }
      ids.push(id);
      context.push(id);
      pass(stream.add(id));
    }
  } finally {
    await predictor.dispose();
  }
  pass(stream.finish());
  return { text, ids, reason };
}
