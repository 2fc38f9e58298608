import { serveError } from '../errors.ts';
import { shown } from './fields.ts';

/** Maximum number of token ids in all prompts of a request together: 256 prompts of 1,024 tokens. */
export const MAX_IDS = 262_144;
/**
 * Maximum number of token ids in a request to `/detokenize`. A text of the maximum length (`MAX_CHARACTERS`) usually
 * has fewer tokens. Decoding so many ids takes about 0.7 s, during which no other request is answered.
 */
export const MAX_DECODED_IDS = 65_536;

/** What a parameter may be, besides a list of token ids. */
const FORMS: Readonly<Record<string, string>> = {
  prompt: 'a text, a list of texts, a list of token ids, or a list of such lists',
};

/**
 * Checks lists of token ids, and returns them. Stops at the first wrong id. A schema would describe every wrong id, and
 * a body can hold millions of them.
 * @param options `size`: number of tokens that exist. `limit`: maximum number of ids in all lists together. `param`:
 *   name of the parameter, for errors
 * @throws SwarmError SERVE_REQUEST
 */
export function checkIds(
  lists: readonly unknown[],
  { size, limit, param }: { size: number; limit: number; param: string },
): number[][] {
  let count = 0;
  for (const list of lists) {
    if (!Array.isArray(list)) {
      const message = `the parameter "${param}" is wrong: expected ${FORMS[param] ?? 'a list of token ids'}`;
      throw serveError('SERVE_REQUEST', message, { param });
    }
    count += list.length;
  }
  if (count > limit) {
    const message = `the request has ${count} token ids; the limit is ${limit}`;
    throw serveError('SERVE_REQUEST', message, { param, ids: count, limit });
  }
  for (const list of lists as unknown[][]) {
    for (const id of list) {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0) {
        const message = `the parameter "${param}" is wrong: a token id must be a whole number, 0 or greater; found ${shown(id)}`;
        throw serveError('SERVE_REQUEST', message, { param });
      }
      if (id >= size) {
        throw serveError('SERVE_REQUEST', `the model has no token ${id}; it has ${size} tokens`, { param });
      }
    }
  }
  return lists as number[][];
}
