import { z } from 'zod';
import { checkOptions } from '../../common/schema-problems.ts';
import { generateError } from './errors.ts';
import type { GenerateRequest, ScoreRequest } from './types.ts';

/** Maximum number of most likely tokens that a request may ask for, as in OpenAI's API. */
const MAX_TOP_TOKENS = 20;
/**
 * Limits on the number and length of stop strings. After each new token, the text is compared with every stop
 * string.
 */
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1024;
const MAX_END_TOKENS = 64;

/** Schema of the options of sampling. */
export const samplingSchema = z.object({
  temperature: z.number().min(0).max(100).optional(),
  topP: z.number().gt(0).max(1).optional(),
  topK: z.int().min(0).optional(),
  minP: z.number().min(0).max(1).optional(),
  repetitionPenalty: z.number().gt(0).max(100).optional(),
  seed: z.int().optional(),
});

const id = z.int().min(0);

const generateSchema = z.object({
  tokens: z.array(id).min(1),
  adapter: z.string().optional(),
  sampling: samplingSchema.optional(),
  maxTokens: z.int().min(1).optional(),
  stop: z.array(z.string().min(1).max(MAX_STOP_LENGTH)).max(MAX_STOPS).optional(),
  endTokens: z.array(id).max(MAX_END_TOKENS).optional(),
  logprobs: z.int().min(0).max(MAX_TOP_TOKENS).optional(),
  client: z.string().max(256).optional(),
});

const scoreSchema = z.object({
  tokens: z.array(id).min(1),
  adapter: z.string().optional(),
  top: z.int().min(0).max(MAX_TOP_TOKENS).optional(),
  from: z.int().min(1).optional(),
  client: z.string().max(256).optional(),
});

/** Properties of a model that limit requests. */
export interface RequestLimits {
  readonly vocabularySize: number;
  /** Maximum number of tokens of a sequence. */
  readonly context: number;
}

/** @throws SwarmError USAGE, GENERATE_TOO_LONG */
export function checkGenerateRequest(request: GenerateRequest, limits: RequestLimits): void {
  checkOptions(generateSchema, request);
  checkTokens(request.tokens, limits, limits.context - 1);
}

/** @throws SwarmError USAGE, GENERATE_TOO_LONG */
export function checkScoreRequest(request: ScoreRequest, limits: RequestLimits): void {
  checkOptions(scoreSchema, request);
  checkTokens(request.tokens, limits, limits.context);
}

function checkTokens(tokens: readonly number[], limits: RequestLimits, most: number): void {
  const { vocabularySize, context } = limits;
  const unknown = tokens.find((token) => token >= vocabularySize);
  if (unknown !== undefined)
    checkOptions(z.object({ tokens: z.int().max(vocabularySize - 1) }), { tokens: unknown });
  if (tokens.length <= most) return;
  throw generateError(
    'GENERATE_TOO_LONG',
    `the request has ${tokens.length} tokens, but the context has ${context}`,
    { tokens: tokens.length, context },
  );
}
