import { serveError } from '../errors.ts';

/** Largest number of token ids in the prompts of a request, together: 256 prompts of 1,024 tokens. */
export const MAX_IDS = 262_144;
/**
 * Largest number of token ids that a request to `/detokenize` may decode: more than a text of the largest number of
 * characters usually has. Decoding them takes about 0.7 s, during which no other request is answered.
 */
export const MAX_DECODED_IDS = 65_536;

/**
 * Checks lists of token ids, and returns them. It stops at the first wrong id, because a schema would describe each of the
 * millions of wrong ids that fit into a body. @throws SwarmError SERVE_REQUEST
 * @param options `size`: number of the ids that exist; `limit`: largest number of ids, together; `param`: for errors
 */
export function checkIds(
  lists: readonly unknown[],
  { size, limit, param }: { size: number; limit: number; param: string },
): number[][] {
  let count = 0;
  for (const list of lists) {
    if (!Array.isArray(list))
      throw serveError(
        'SERVE_REQUEST',
        `the parameter "${param}" is wrong: it has something other than token ids`,
        { param },
      );
    count += list.length;
  }
  if (count > limit) {
    const message = `the request has ${count} token ids; the limit is ${limit}`;
    throw serveError('SERVE_REQUEST', message, { param, ids: count, limit });
  }
  for (const list of lists as unknown[][]) {
    for (const id of list) {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0) {
        throw serveError(
          'SERVE_REQUEST',
          `the parameter "${param}" is wrong: a token id is not a whole number from 0`,
          { param },
        );
      }
      if (id >= size) {
        throw serveError('SERVE_REQUEST', `the model has no token ${id}; it has ${size} tokens`, { param });
      }
    }
  }
  return lists as number[][];
}
