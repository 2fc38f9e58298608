import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Choice, LoggedToken } from '../answers/choice.ts';
import type { TokenTexts } from '../answers/token-texts.ts';
import { serveError } from '../errors.ts';
import { checkLength, startAnswer, wholeChoices } from './answer.ts';
import type { RouteContext } from './context.ts';
import { sendEvents } from './event-stream.ts';
import { choiceRequest, MAX_TOP_LOGPROBS, optional, parseBody, sharedFields } from './fields.ts';
import { finite } from './logprobs.ts';
import { messagesSchema, promptIds } from './messages.ts';

export const chatSchema = z.looseObject({
  ...sharedFields,
  messages: messagesSchema,
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: optional(z.boolean(), false),
  top_logprobs: optional(z.int().min(0).max(MAX_TOP_LOGPROBS), 0),
});

/** Adds `POST /v1/chat/completions`. */
export function chatRoutes(server: FastifyInstance, context: RouteContext): void {
  server.post('/v1/chat/completions', async (request, reply) => {
    const body = parseBody(chatSchema, request.body);
    const { model, n, messages, stream_options } = body;
    const { generator, tokenTexts, clock } = context;
    const ids = await promptIds({ model, messages }, context);
    const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? generator.context - ids.length;
    checkLength(ids.length, Math.max(1, maxTokens), generator.context);
    if (body.top_logprobs > 0 && !body.logprobs) {
      throw serveError('SERVE_REQUEST', 'top_logprobs needs logprobs: true', { param: 'top_logprobs' });
    }
    const seed = body.seed ?? context.randomSeed();
    const logprobs = body.logprobs ? body.top_logprobs : null;
    const choices = (adapter: string | undefined): Choice[] =>
      Array.from({ length: n }, (_, j) => ({
        request: choiceRequest(body, ids, { adapter, seed, index: j, maxTokens, logprobs }),
        echo: null,
        listsEnd: false,
      }));
    const answer = await startAnswer(
      { model, choices, promptTokens: ids.length, prompts: 1, choicesPerPrompt: n },
      { request, reply },
      context,
    );
    const head = {
      id: `chatcmpl-${randomUUID().replaceAll('-', '')}`,
      created: Math.floor(clock.now() / 1000),
      model,
      system_fingerprint: answer.digest,
    };
    const logged = (tokens: readonly LoggedToken[]): object | null =>
      body.logprobs
        ? { content: tokens.map((token) => describeToken(token, tokenTexts)), refusal: null }
        : null;

    if (body.stream) {
      const withUsage = stream_options?.include_usage === true;
      const common = { ...head, object: 'chat.completion.chunk', ...(withUsage && { usage: null }) };
      const chunk = (
        index: number,
        delta: object,
        logprobs: object | null,
        finish: string | null,
      ): object => ({
        ...common,
        choices: [{ index, delta, logprobs, finish_reason: finish }],
      });
      const chunks = async function* (): AsyncGenerator<object, void, undefined> {
        for (let index = 0; index < n; index++) {
          yield chunk(index, { role: 'assistant', content: '' }, null, null);
        }
        for await (const { index, text, tokens, finish } of answer.pieces) {
          if (text !== '' || tokens.length > 0) yield chunk(index, { content: text }, logged(tokens), null);
          if (finish !== null) yield chunk(index, {}, null, finish);
        }
        if (withUsage) yield { ...common, choices: [], usage: answer.usage() };
      };
      return sendEvents(reply, chunks(), (error) => context.onStreamError(request, error));
    }
    const texts = await wholeChoices(answer.pieces, n);
    return {
      ...head,
      object: 'chat.completion',
      choices: texts.map(({ text, tokens, finish }, index) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: logged(tokens),
        finish_reason: finish,
      })),
      usage: answer.usage(),
    };
  });
}

/** Describes a token as OpenAI's chat answers do. */
function describeToken({ id, logprob, top }: LoggedToken, texts: TokenTexts): object {
  const describe = (token: { id: number; logprob: number }): object => {
    const text = texts.of(token.id);
    // A token that is a part of a character decodes to U+FFFD, so its bytes cannot be derived from the text.
    const bytes = text.includes('\ufffd') ? null : [...Buffer.from(text)];
    return { token: text, logprob: finite(token.logprob), bytes };
  };
  return { ...describe({ id, logprob: logprob ?? 0 }), top_logprobs: (top ?? []).map(describe) };
}
