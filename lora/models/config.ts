import type { SwarmError } from '../../common/errors.ts';
import { modelError } from './errors.ts';

/** Readers for fields of config.json that all families share. */

/** The part of a model's config that all families have. Code outside lora/models uses only these fields. */
export interface CommonConfig {
  /** transformers' `model_type`. */
  readonly family: string;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  /** Width inside the feed-forward block. */
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  /** Maximum length of a row, in tokens. */
  readonly maxPositions: number;
  readonly tieWordEmbeddings: boolean;
}

/**
 * Maximum of any dimension or count in a config, which is untrusted and read before the weights. 2^21 is above every
 * vocabulary in use (262,144 at the time of writing).
 */
export const MAX_DIMENSION = 2 ** 21;

/** Maximum number of layers. The list of parameters grows with the number of layers. Llama 3.1 405B has 126. */
export const MAX_LAYERS = 1024;

/** Maximum of `max_position_embeddings`. Published configs have far smaller values. */
export const MAX_POSITIONS = 2 ** 31;

export type Json = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads a whole number from `least` to `most`. Returns `fallback` if the field is missing or null.
 * @throws SwarmError MODEL_CONFIG
 */
export function readCount(
  json: Json,
  field: string,
  fallback?: number,
  most = MAX_DIMENSION,
  least = 1,
): number {
  const value = json[field] ?? fallback;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
    throw invalid(field, `a whole number from ${least} to ${most}`, json[field]);
  return value;
}

/** Reads a positive number. Returns `fallback` if the field is missing or null. @throws SwarmError MODEL_CONFIG */
export function readPositive(json: Json, field: string, fallback?: number): number {
  const value = json[field] ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
    throw invalid(field, 'a positive number', json[field]);
  return value;
}

/** Reads a boolean. Returns `fallback` if the field is missing or null. @throws SwarmError MODEL_CONFIG */
export function readFlag(json: Json, field: string, fallback: boolean): boolean {
  const value = json[field] ?? fallback;
  if (typeof value !== 'boolean') throw invalid(field, 'true or false', value);
  return value;
}

/**
 * Checks that a field has one of the implemented values.
 * @param allowed implemented values, including undefined if the field may be missing
 * @throws SwarmError MODEL_UNSUPPORTED
 */
export function requireOneOf(json: Json, field: string, allowed: readonly unknown[]): void {
  if (!allowed.includes(json[field])) throw unsupported(field, json[field], allowed);
}

/**
 * Refuses configs that no family supports: quantised weights, weights in a file with a non-standard name, and heads other
 * than the language model's.
 * @param className transformers' class of the language model, e.g. LlamaForCausalLM
 * @throws SwarmError MODEL_UNSUPPORTED
 */
export function requireLanguageModel(json: Json, className: string): void {
  requireOneOf(json, 'quantization_config', [null, undefined]);
  requireOneOf(json, 'transformers_weights', [null, undefined]);
  const names = json.architectures ?? [className];
  if (!Array.isArray(names) || !names.includes(className))
    throw unsupported('architectures', names, [className]);
}

export function invalid(field: string, expected: string, found: unknown): SwarmError {
  return modelError(
    'MODEL_CONFIG',
    `config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, expected ${expected}`,
    { field, expected, found },
  );
}

export function unsupported(field: string, found: unknown, allowed: readonly unknown[]): SwarmError {
  const known = allowed.filter((value) => value !== undefined).map((value) => JSON.stringify(value));
  return modelError(
    'MODEL_UNSUPPORTED',
    `config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, which is not supported (supported: ${known.join(', ')})`,
    { field, found, supported: allowed.filter((value) => value !== undefined) },
  );
}
