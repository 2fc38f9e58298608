import { serveError } from '../errors.ts';
import type { RouteContext } from './context.ts';
import { checkCharacters } from './fields.ts';
import { checkIds, MAX_IDS } from './token-ids.ts';

/** Maximum number of prompts in a request. */
const MAX_PROMPTS = 256;

/** A prompt of a completion. */
export interface Prompt {
  readonly ids: readonly number[];
  /** Returns the prompt as a text. Decoding ids takes time, and only a request with `echo` needs the text. */
  text(): string;
}

/**
 * Parses a prompt: a text, token ids, a list of texts, or a list of lists of ids. Checks everything before any text is
 * converted to tokens.
 * @throws SwarmError SERVE_REQUEST
 */
export function promptsOf(
  prompt: unknown,
  special: boolean,
  { generator: { tokenizer, model } }: Pick<RouteContext, 'generator'>,
): Prompt[] {
  const param = 'prompt';
  if (prompt === undefined) {
    throw serveError('SERVE_REQUEST', 'the parameter "prompt" is missing', { param });
  }
  const list = listOf(prompt);
  if (list.length === 0 || list.length > MAX_PROMPTS) {
    const message = `a request has 1 to ${MAX_PROMPTS} prompts, not ${list.length}`;
    throw serveError('SERVE_REQUEST', message, { param });
  }
  if (list.every((item) => typeof item === 'string')) {
    checkCharacters(list, param);
    return list.map((text) => {
      const ids = [...(special ? tokenizer.prefix : []), ...tokenizer.encode(text, { special: false })];
      // The model needs at least one token, even with an empty prompt and no beginning-of-text token.
      return { ids: ids.length === 0 ? [tokenizer.eosId ?? 0] : ids, text: () => text };
    });
  }
  return checkIds(list, { size: model.config.vocabularySize, limit: MAX_IDS, param }).map((ids) => {
    if (ids.length === 0) throw serveError('SERVE_REQUEST', 'a prompt has no token', { param });
    return { ids, text: () => tokenizer.decode(ids) };
  });
}

/** Returns the prompts of a request, each a text or a list of ids. */
function listOf(prompt: unknown): unknown[] {
  if (!Array.isArray(prompt)) return [prompt];
  return typeof prompt[0] === 'number' ? [prompt] : prompt;
}
