import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { serveError } from '../errors.ts';
import type { RouteContext } from './context.ts';
import { checkCharacters, optional, parseBody } from './fields.ts';
import { messagesSchema, promptIds } from './messages.ts';

const tokenizeSchema = z.looseObject({
  prompt: z.string().optional(),
  messages: messagesSchema.optional(),
  add_special_tokens: optional(z.boolean(), true),
});
const detokenizeSchema = z.looseObject({ tokens: z.array(z.int().min(0)) });

/** Facts about the tokenizer, in the form of vLLM's `/tokenizer_info`. */
export interface TokenizerInfo {
  readonly bos_token: string | null;
  readonly eos_token: string | null;
  readonly pad_token: string | null;
  readonly unk_token: string | null;
  readonly chat_template: string | null;
}

/** Adds `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them. lm-evaluation-harness uses all three. */
export function tokenRoutes(server: FastifyInstance, context: RouteContext, info: TokenizerInfo): void {
  const { tokenizer, context: length } = context.generator;
  server.post('/tokenize', async ({ body }) => {
    const { prompt, messages, add_special_tokens: special } = parseBody(tokenizeSchema, body);
    if ((prompt === undefined) === (messages === undefined)) {
      throw serveError('SERVE_REQUEST', 'give either prompt or messages', { param: 'prompt' });
    }
    if (prompt !== undefined) checkCharacters([prompt], 'prompt');
    const tokens =
      messages === undefined ? tokenizer.encode(prompt!, { special }) : await promptIds(messages, context);
    return { tokens, count: tokens.length, max_model_len: length };
  });
  server.post('/detokenize', async ({ body }) => {
    const { tokens } = parseBody(detokenizeSchema, body);
    return { prompt: tokenizer.decode(tokens, { special: true }) };
  });
  server.get('/tokenizer_info', async () => ({
    ...info,
    bos_token_id: tokenizer.bosId,
    eos_token_id: tokenizer.eosId,
    vocab_size: tokenizer.vocabSize,
    model_max_length: length,
  }));
}
