import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Choice, LoggedToken } from '../answers/choice.ts';
import type { TokenTexts } from '../answers/token-texts.ts';
import { checkLength, startAnswer, wholeChoices } from './answer.ts';
import type { RouteContext } from './context.ts';
import { sendEvents } from './event-stream.ts';
import { choiceRequest, MAX_TOP_LOGPROBS, optional, parseBody, sharedFields } from './fields.ts';
import { finite } from './logprobs.ts';
import { type Prompt, promptsOf } from './prompts.ts';

/** Default of `max_tokens`, as in OpenAI's API. */
const MAX_TOKENS = 16;

export const completionSchema = z.looseObject({
  ...sharedFields,
  /** `promptsOf` checks the prompt. */
  prompt: z.unknown(),
  max_tokens: z.int().min(0).nullish(),
  echo: optional(z.boolean(), false),
  logprobs: z
    .union(
      [z.int().min(0).max(MAX_TOP_LOGPROBS), z.literal(false).transform(() => null)],
      `expected a whole number from 0 to ${MAX_TOP_LOGPROBS}`,
    )
    .nullish(),
  /** Whether the tokenizer's special tokens are put before a prompt that is a text. */
  add_special_tokens: optional(z.boolean(), true),
});

/** Log-probabilities in the form of OpenAI's completions API. */
interface Logprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

/** Adds `POST /v1/completions`. */
export function completionRoutes(server: FastifyInstance, context: RouteContext): void {
  server.post('/v1/completions', async (request, reply) => {
    const body = parseBody(completionSchema, request.body);
    const { model, n, echo, stream_options } = body;
    const { logprobs = null } = body;
    const { generator, tokenTexts, clock } = context;
    const prompts = promptsOf(body.prompt, body.add_special_tokens, context);
    const longest = Math.max(...prompts.map(({ ids }) => ids.length));
    const maxTokens = body.max_tokens ?? Math.max(1, Math.min(MAX_TOKENS, generator.context - longest));
    checkLength(longest, maxTokens, generator.context);
    const texts = echo ? await textsOf(prompts) : null;
    const seed = body.seed ?? context.randomSeed();
    const choices = (adapter: string | undefined): Choice[] =>
      prompts.flatMap(({ ids }, i) =>
        Array.from({ length: n }, (_, j) => ({
          request: choiceRequest(body, ids, { adapter, seed, index: j, maxTokens, logprobs }),
          echo: texts === null ? null : texts[i]!,
          listsEnd: true,
        })),
      );
    const answer = await startAnswer(
      {
        model,
        choices,
        promptTokens: prompts.reduce((sum, { ids }) => sum + ids.length, 0),
        prompts: prompts.length,
        choicesPerPrompt: n,
      },
      { request, reply },
      context,
    );
    const head = {
      id: `cmpl-${randomUUID().replaceAll('-', '')}`,
      object: 'text_completion',
      created: Math.floor(clock.now() / 1000),
      model,
      system_fingerprint: answer.digest,
    };
    const logs = Array.from({ length: prompts.length * n }, () => new LogprobsOfChoice(tokenTexts));
    const wantsLogprobs = logprobs !== null;

    if (body.stream) {
      const withUsage = stream_options?.include_usage === true;
      const chunks = async function* (): AsyncGenerator<object, void, undefined> {
        for await (const { index, text, tokens, finish } of answer.pieces) {
          const part = wantsLogprobs ? logs[index]!.take(tokens) : null;
          const choice = { index, text, logprobs: part, finish_reason: finish };
          yield { ...head, choices: [choice], ...(withUsage && { usage: null }) };
        }
        if (withUsage) yield { ...head, choices: [], usage: answer.usage() };
      };
      return sendEvents(reply, chunks(), (error) => context.onStreamError(request, error));
    }
    const answers = await wholeChoices(answer.pieces, logs.length);
    return {
      ...head,
      choices: answers.map(({ text, tokens, finish }, index) => ({
        index,
        text,
        logprobs: wantsLogprobs ? logs[index]!.take(tokens) : null,
        finish_reason: finish,
      })),
      usage: answer.usage(),
    };
  });
}

/** Decodes prompts. Lets other requests run after each prompt, because many prompts together take seconds. */
async function textsOf(prompts: readonly Prompt[]): Promise<string[]> {
  const texts: string[] = [];
  for (const { text } of prompts) {
    texts.push(text());
    await setImmediate();
  }
  return texts;
}

/** Formats the log-probabilities of a choice, whose tokens may arrive in parts. */
class LogprobsOfChoice {
  readonly #texts: TokenTexts;
  /** Length of the texts of all earlier tokens, in code points. */
  #offset = 0;

  constructor(texts: TokenTexts) {
    this.#texts = texts;
  }

  take(tokens: readonly LoggedToken[]): Logprobs {
    const result: Logprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const { id, logprob, top } of tokens) {
      const text = this.#texts.of(id);
      result.tokens.push(text);
      result.token_logprobs.push(logprob === null ? null : finite(logprob));
      result.top_logprobs.push(logprob === null ? null : this.#alternatives({ id, logprob }, top ?? []));
      result.text_offset.push(this.#offset);
      this.#offset += [...text].length;
    }
    return result;
  }

  /**
   * Returns the log-probabilities of the alternatives and of the token itself, by text. If several tokens have the same
   * text, the most likely one is listed, so that a client sees whether a more likely token than the chosen one existed.
   */
  #alternatives(
    token: { id: number; logprob: number },
    top: readonly { id: number; logprob: number }[],
  ): Record<string, number> {
    const byText = new Map<string, number>();
    for (const { id, logprob } of [...top, token]) {
      const text = this.#texts.of(id);
      byText.set(text, Math.max(finite(logprob), byText.get(text) ?? Number.NEGATIVE_INFINITY));
    }
    return Object.fromEntries(byText);
  }
}
