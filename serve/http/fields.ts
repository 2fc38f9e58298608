import { z } from 'zod';
import { countOf } from '../../common/text.ts';
import type { Choice } from '../answers/choice.ts';
import { serveError } from '../errors.ts';

/**
 * Maximum size of a request's body in bytes. The largest allowed number of token ids takes 2 MiB. The rest is for
 * fields that the server ignores.
 */
export const BODY_BYTES = 8 * 1024 * 1024;

/** Maximum number of alternative tokens whose log-probabilities a request may ask for at each position. */
export const MAX_TOP_LOGPROBS = 20;
/** Maximum number of choices per prompt. */
const MAX_CHOICES = 16;
/** Limits on stop strings. The generator has the same limits. */
const MAX_STOPS = 16;
const MAX_STOP_CHARACTERS = 1024;
/** Maximum temperature, as in OpenAI's API. */
const MAX_TEMPERATURE = 2;

/**
 * Maximum number of characters in all texts of a request together: about 25 for each of the 8,192 tokens of the default
 * context. While the texts are converted to tokens, no other request is answered. This takes 0.2 to 0.4 s for so many
 * characters. A million characters would take 1 to 2 s.
 */
export const MAX_CHARACTERS = 200_000;
/**
 * Maximum number of values in a body, without the prompts and token ids. A conversation of 1,000 messages has about
 * 6,000 values. Without this limit, a body could hold millions of wrong values. The schema would describe each of them,
 * which would take seconds and gigabytes.
 */
const MAX_VALUES = 20_000;
/** Parameters that may be lists of token ids. `checkIds` counts them. */
const ID_LISTS: readonly string[] = ['prompt', 'tokens'];

const stopSchema = z.string().min(1).max(MAX_STOP_CHARACTERS);

/** Returns a schema in which null or a missing value means the default. Some clients send null for unset parameters. */
export function optional<S extends z.ZodType>(schema: S, fallback: z.output<S>) {
  return schema.nullish().transform((value): z.output<S> => value ?? fallback);
}

/** The parameters that completions and chats share, with OpenAI's defaults. */
export const sharedFields = {
  model: z.string().min(1).max(512),
  n: optional(z.int().min(1).max(MAX_CHOICES), 1),
  stop: z
    .union(
      [stopSchema.transform((stop) => [stop]), z.array(stopSchema).max(MAX_STOPS)],
      `expected a text of 1 to ${MAX_STOP_CHARACTERS} characters, or a list of at most ${MAX_STOPS} such texts`,
    )
    .nullish()
    .transform((stop) => stop ?? []),
  temperature: optional(z.number().min(0).max(MAX_TEMPERATURE), 1),
  top_p: optional(z.number().gt(0).max(1), 1),
  top_k: optional(z.int().min(-1), 0),
  min_p: optional(z.number().min(0).max(1), 0),
  repetition_penalty: optional(z.number().gt(0).max(10), 1),
  seed: z.int().nullish(),
  ignore_eos: optional(z.boolean(), false),
  stream: optional(z.boolean(), false),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
} as const;

type Shared = z.output<z.ZodObject<typeof sharedFields>>;

/** Refuses texts that together have too many characters. @throws SwarmError SERVE_REQUEST */
export function checkCharacters(texts: readonly string[], param: string): void {
  const characters = texts.reduce((sum, { length }) => sum + length, 0);
  if (characters <= MAX_CHARACTERS) return;
  const message = `the texts of the request have ${characters} characters; the limit is ${MAX_CHARACTERS}`;
  throw serveError('SERVE_REQUEST', message, { param, characters, limit: MAX_CHARACTERS });
}

/**
 * Returns the sampling settings of a choice.
 * @param seed the seed in the request or, if the request has none, a seed that the server chose
 */
function samplingOf(
  { temperature, top_p: topP, top_k, min_p: minP, repetition_penalty: repetitionPenalty }: Shared,
  seed: number,
) {
  // A top_k of -1 means no limit, as in other servers.
  return { temperature, topP, topK: Math.max(0, top_k), minP, repetitionPenalty, seed };
}

/**
 * Returns the request for one of the `n` choices of a prompt.
 * @param options.seed seed of the first choice; `index` is added to it. `logprobs`: number of alternatives to list with
 *   each token; null for no log-probabilities
 */
export function choiceRequest(
  body: Shared,
  tokens: readonly number[],
  options: {
    readonly adapter: string | undefined;
    readonly seed: number;
    readonly index: number;
    readonly maxTokens: number;
    readonly logprobs: number | null;
  },
): Choice['request'] {
  const { adapter, seed, index, maxTokens, logprobs } = options;
  return {
    tokens,
    adapter,
    sampling: samplingOf(body, seed + index),
    maxTokens,
    stop: body.stop,
    ...(body.ignore_eos && { endTokens: [] }),
    ...(logprobs !== null && { logprobs }),
  };
}

/** Returns whether a parameter's value has no effect on the answer, because it means the same as leaving it out. */
type IsNeutral = (value: unknown) => boolean;

const isZero: IsNeutral = (value) => value === 0;
const isFalse: IsNeutral = (value) => value === false;
const isTrue: IsNeutral = (value) => value === true;
const isEmpty: IsNeutral = (value) =>
  value === '' || (typeof value === 'object' && value !== null && Object.keys(value).length === 0);
const isNever: IsNeutral = () => false;

/**
 * Parameters that would change the answer, and that this server does not support. A request with one of them is refused,
 * except with a value that has no effect. Parameters that neither this table nor a schema names are ignored, as in other
 * servers, because clients send many that only OpenAI's own service knows.
 */
const REFUSED: Readonly<Record<string, IsNeutral>> = {
  add_generation_prompt: isTrue,
  allowed_token_ids: isNever,
  audio: isNever,
  bad_words: isEmpty,
  best_of: (value) => value === 1,
  chat_template: isNever,
  chat_template_kwargs: isEmpty,
  continue_final_message: isFalse,
  frequency_penalty: isZero,
  function_call: (value) => value === 'none',
  functions: isEmpty,
  guided_choice: isNever,
  guided_grammar: isNever,
  guided_json: isNever,
  guided_regex: isNever,
  logit_bias: isEmpty,
  min_tokens: isZero,
  modalities: (value) => JSON.stringify(value) === '["text"]',
  prediction: isNever,
  presence_penalty: isZero,
  prompt_logprobs: isNever,
  response_format: (value) => (value as { type?: unknown }).type === 'text',
  stop_token_ids: isEmpty,
  structured_outputs: isNever,
  suffix: isEmpty,
  tool_choice: (value) => value === 'none' || value === 'auto',
  tools: isEmpty,
  truncate_prompt_tokens: isNever,
  use_beam_search: isFalse,
  web_search_options: isNever,
};

/** Refuses a body with too many values. @throws SwarmError SERVE_REQUEST */
function checkValues(body: object): void {
  let count = 0;
  for (const [param, parameter] of Object.entries(body)) {
    if (ID_LISTS.includes(param)) continue;
    // A loop instead of recursion, because a body may be nested deeper than the stack.
    const open: unknown[] = [parameter];
    while (open.length > 0) {
      const value = open.pop();
      if (typeof value !== 'object' || value === null) continue;
      const inner = Object.values(value);
      count += inner.length;
      if (count > MAX_VALUES) {
        const message = `the request has more than ${MAX_VALUES} values`;
        throw serveError('SERVE_REQUEST', message, { param, limit: MAX_VALUES });
      }
      for (const item of inner) open.push(item);
    }
  }
}

/**
 * Parses the body of a request.
 * @throws SwarmError SERVE_REQUEST with the name of the wrong parameter; SERVE_PARAMETER for a parameter that is not
 *   supported
 */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw serveError('SERVE_REQUEST', 'the body is not a JSON object');
  }
  checkValues(body);
  for (const [name, isNeutral] of Object.entries(REFUSED)) {
    const value = (body as Record<string, unknown>)[name];
    if (value === undefined || value === null || isNeutral(value)) continue;
    throw serveError('SERVE_PARAMETER', `this server does not support the parameter "${name}"`, {
      param: name,
    });
  }
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const param = issue?.path.join('.') ?? '';
  const missing = issue?.path.length === 1 && !Object.hasOwn(body, issue.path[0]!);
  const found = issue?.path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | null)?.[key],
    body,
  );
  const problem = missing ? 'missing' : `wrong: ${issue?.message ?? 'invalid'}; found ${shown(found)}`;
  throw serveError('SERVE_REQUEST', `the parameter "${param}" is ${problem}`, { param });
}

/** Maximum number of characters of a wrong value that an error shows. */
const MAX_SHOWN = 60;

/** Describes a value of a request for an error. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `a list with ${countOf(value.length, 'item')}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value);
}
