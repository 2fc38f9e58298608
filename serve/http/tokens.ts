import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { BASE_ALIAS } from '../../protocol/ids.ts';
import { serveError } from '../errors.ts';
import type { RouteContext } from './context.ts';
import { checkCharacters, optional, parseBody } from './fields.ts';
import { messagesSchema, promptIds } from './messages.ts';
import { checkIds, MAX_DECODED_IDS } from './token-ids.ts';

export const tokenizeSchema = z.looseObject({
  /** Model whose chat template renders `messages`. */
  model: optional(z.string(), BASE_ALIAS),
  prompt: z.string().optional(),
  messages: messagesSchema.optional(),
  add_special_tokens: optional(z.boolean(), true),
});
/** The schema accepts any `tokens`, because `checkIds` checks them later. */
export const detokenizeSchema = z.looseObject({ tokens: z.unknown() });

/** Facts about the tokenizer, in the form of vLLM's `/tokenizer_info`. */
export interface TokenizerInfo {
  readonly bos_token: string | null;
  readonly eos_token: string | null;
  readonly pad_token: string | null;
  readonly unk_token: string | null;
  readonly chat_template: string | null;
}

/** Adds the routes `/tokenize`, `/detokenize` and `/tokenizer_info` of vLLM. lm-evaluation-harness uses all three. */
export function tokenRoutes(server: FastifyInstance, context: RouteContext, info: TokenizerInfo): void {
  const { tokenizer, context: length, model } = context.generator;
  // Either number can be the larger one: a tokenizer can have more or fewer tokens than the embedding has rows.
  const size = Math.max(tokenizer.vocabSize, model.config.vocabularySize);
  /** Runs work for a request. For the limits on unanswered sequences, the request counts as one sequence. */
  const admitted = async <T>(request: FastifyRequest, work: () => T | Promise<T>): Promise<T> => {
    if (context.isDraining()) throw serveError('SERVE_STOPPING', 'the server is stopping');
    const end = context.admission.admit(context.access.clientOf(request), 1);
    try {
      return await work();
    } finally {
      end();
    }
  };
  server.post('/tokenize', async (request) => {
    const { model, prompt, messages, add_special_tokens: special } = parseBody(tokenizeSchema, request.body);
    if ((prompt === undefined) === (messages === undefined)) {
      throw serveError('SERVE_REQUEST', 'give either prompt or messages', { param: 'prompt' });
    }
    if (prompt !== undefined) checkCharacters([prompt], 'prompt');
    const tokens = await admitted(request, () =>
      messages === undefined
        ? tokenizer.encode(prompt!, { special })
        : promptIds({ model, messages }, context),
    );
    return { tokens, count: tokens.length, max_model_len: length };
  });
  server.post('/detokenize', async (request) => {
    const { tokens } = parseBody(detokenizeSchema, request.body);
    const [ids] = checkIds([tokens], { size, limit: MAX_DECODED_IDS, param: 'tokens' });
    return { prompt: await admitted(request, () => tokenizer.decode(ids!, { special: true })) };
  });
  server.get('/tokenizer_info', async () => ({
    ...info,
    bos_token_id: tokenizer.bosId,
    eos_token_id: tokenizer.eosId,
    vocab_size: tokenizer.vocabSize,
    model_max_length: length,
  }));
}
