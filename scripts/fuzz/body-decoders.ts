/** Decoders of the bodies of requests to `lora-swarm serve`, which its clients send. */
import type { z } from 'zod';
import { messageOf, SwarmError } from '../../common/errors.ts';
import { tokenizerOf } from '../../lora/data/tokenizer.ts';
import { chatSchema } from '../../serve/http/chats.ts';
import { completionSchema } from '../../serve/http/completions.ts';
import type { RouteContext } from '../../serve/http/context.ts';
import { choiceRequest, parseBody } from '../../serve/http/fields.ts';
import { nameSchema } from '../../serve/http/models.ts';
import { promptsOf } from '../../serve/http/prompts.ts';
import { checkIds } from '../../serve/http/token-ids.ts';
import { detokenizeSchema, tokenizeSchema } from '../../serve/http/tokens.ts';
import type { FuzzDecoder } from './decoder.ts';
import { TOKENIZER } from './file-decoders.ts';
import { jsonText } from './json-of.ts';

const tokenizer = tokenizerOf(structuredClone(TOKENIZER), {}, { file: 'tokenizer.json' });
const VOCABULARY = 7;
const context = {
  generator: { tokenizer, model: { config: { vocabularySize: VOCABULARY } } },
} as unknown as RouteContext;
const CHOICE = { adapter: undefined, seed: 0, index: 0, maxTokens: 4, logprobs: null };

const SAMPLING = {
  model: 'moby',
  n: 2,
  stop: ['x', 'y'],
  temperature: 0.5,
  top_p: 0.9,
  top_k: 4,
  min_p: 0.1,
  repetition_penalty: 1.1,
  seed: 3,
  stream: true,
  stream_options: { include_usage: true },
  logit_bias: {},
  tools: [],
  response_format: { type: 'text' },
};
const MESSAGES = [
  { role: 'developer', content: 'abc' },
  { role: 'user', content: [{ type: 'text', text: 'ab' }] },
];

/** Makes a decoder of a body. */
function body<S extends z.ZodType>(
  name: string,
  schema: S,
  examples: readonly object[],
  use: (value: z.output<S>) => unknown = () => null,
): FuzzDecoder {
  return jsonText(`body:${name}`, examples, (text) => {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      // This counts as a refusal, because the HTTP server refuses a body that is not JSON before a route gets it.
      throw new SwarmError('SERVE_REQUEST', messageOf(error), {});
    }
    return use(parseBody(schema, value));
  });
}

export const bodyDecoders: readonly FuzzDecoder[] = [
  body(
    'completions',
    completionSchema,
    [
      { ...SAMPLING, prompt: 'abc ab', max_tokens: 4, echo: true, logprobs: 2 },
      { ...SAMPLING, prompt: [[0, 1, 2], [3]], logprobs: false, suffix: null },
    ],
    (value) =>
      promptsOf(value.prompt, value.add_special_tokens, context).map(({ ids, text }) => [
        choiceRequest(value, ids, CHOICE),
        text(),
      ]),
  ),
  body('chat', chatSchema, [{ ...SAMPLING, messages: MESSAGES, logprobs: true, top_logprobs: 3 }], (value) =>
    choiceRequest(value, [1], CHOICE),
  ),
  body('tokenize', tokenizeSchema, [{ prompt: 'abc' }, { model: 'moby', messages: MESSAGES }]),
  body('detokenize', detokenizeSchema, [{ tokens: [0, 1, 2, 3] }], ({ tokens }) => {
    const [ids] = checkIds([tokens], { size: VOCABULARY, limit: 1000, param: 'tokens' });
    return tokenizer.decode(ids!, { special: true });
  }),
  body('adapter', nameSchema, [{ lora_name: 'moby:best', lora_path: null }]),
];
