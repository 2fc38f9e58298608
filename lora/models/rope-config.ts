import {
  invalid,
  isObject,
  type Json,
  MAX_POSITIONS,
  readCount,
  readFlag,
  readPositive,
  requireOneOf,
  unsupported,
} from './config.ts';

/** Frequencies of the rotary embedding: the base θ and, for an extended context, the scaling. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling: RopeScaling | null;
}

/** Scaling of the frequencies; rope.ts has the formulas. */
export type RopeScaling = LinearScaling | Llama3Scaling | YarnScaling;

/** Every frequency is divided by `factor`. */
export interface LinearScaling {
  readonly type: 'linear';
  readonly factor: number;
}

/**
 * Llama 3.1: frequencies with long wavelengths are divided by `factor`, frequencies with short wavelengths are kept,
 * and frequencies in between are interpolated.
 */
export interface Llama3Scaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalMaxPositions: number;
}

/**
 * YaRN. How far a frequency is scaled down depends on its number of turns within the original context. Attention scores
 * are also sharpened, by `attentionFactor`.
 */
export interface YarnScaling {
  readonly type: 'yarn';
  readonly factor: number;
  /** Frequencies that make more turns than this within the original context stay unchanged. */
  readonly betaFast: number;
  /** Frequencies that make fewer turns than this within the original context are divided by `factor`. */
  readonly betaSlow: number;
  readonly originalMaxPositions: number;
  /** Factor by which cos and sin are multiplied. */
  readonly attentionFactor: number;
  /** Whether the bounds of the interpolation are rounded to whole dimensions. */
  readonly truncate: boolean;
}

/** Layer types, the keys of Gemma 3's nested `rope_parameters`. */
const LAYER_TYPES = ['full_attention', 'sliding_attention'];

/**
 * Reads rotary positions that are the same in all layers: `rope_theta` and `rope_scaling` of transformers 4, or
 * `rope_parameters` of transformers 5. If a config has both, the fields of transformers 4 are used, as in transformers.
 * @throws SwarmError MODEL_CONFIG, MODEL_UNSUPPORTED
 */
export function parseRope(json: Json): RopeConfig {
  const fields = ropeFields(json);
  for (const type of LAYER_TYPES)
    if (type in fields)
      throw unsupported('rope_parameters', Object.keys(fields), ['rope_type', 'rope_theta']);
  return parseRopeFields(json, fields, readPositive(json, 'rope_theta', 10_000));
}

/**
 * Returns the object of a config that describes the scaling of rotary positions; empty if there is no
 * scaling.
 */
export function ropeFields(json: Json): Json {
  for (const field of ['rope_scaling', 'rope_parameters']) {
    const value = json[field] ?? {};
    if (!isObject(value)) throw invalid(field, 'an object', value);
    if (Object.keys(value).length > 0) return value;
  }
  return {};
}

/**
 * Reads the settings of rotary positions.
 * @param json the whole config
 * @param fields the part of the config that describes rotary positions; see `ropeFields`
 * @param theta base θ if `fields` has no `rope_theta`
 */
export function parseRopeFields(json: Json, fields: Json, theta: number): RopeConfig {
  for (const holder of [json, fields]) requireOneOf(holder, 'partial_rotary_factor', [1, null, undefined]);
  return { theta: readPositive(fields, 'rope_theta', theta), scaling: parseScaling(json, fields) };
}

function parseScaling(json: Json, fields: Json): RopeScaling | null {
  // Configs from before transformers 4.45 have the field `type` instead of `rope_type`.
  const type = fields.rope_type ?? fields.type ?? 'default';
  if (type === 'default') return null;
  if (type === 'linear') return { type, factor: readPositive(fields, 'factor') };
  if (type !== 'llama3' && type !== 'yarn')
    throw unsupported('rope_type', type, ['default', 'linear', 'llama3', 'yarn']);
  const maxPositions = readCount(json, 'max_position_embeddings', undefined, MAX_POSITIONS);
  const holder = json.original_max_position_embeddings === undefined ? fields : json;
  const originalMaxPositions = readCount(
    holder,
    'original_max_position_embeddings',
    maxPositions,
    MAX_POSITIONS,
  );
  return type === 'llama3'
    ? parseLlama3(fields, originalMaxPositions)
    : parseYarn(fields, originalMaxPositions, maxPositions);
}

function parseLlama3(fields: Json, originalMaxPositions: number): Llama3Scaling {
  const lowFrequencyFactor = readPositive(fields, 'low_freq_factor');
  const highFrequencyFactor = readPositive(fields, 'high_freq_factor');
  if (highFrequencyFactor <= lowFrequencyFactor)
    throw invalid(
      'high_freq_factor',
      `more than low_freq_factor (${lowFrequencyFactor})`,
      highFrequencyFactor,
    );
  const factor = readPositive(fields, 'factor');
  return { type: 'llama3', factor, lowFrequencyFactor, highFrequencyFactor, originalMaxPositions };
}

function parseYarn(fields: Json, originalMaxPositions: number, maxPositions: number): YarnScaling {
  // DeepSeek's configs set the attention factor with these fields, which are not implemented. So they are
  // refused.
  for (const field of ['mscale', 'mscale_all_dim']) requireOneOf(fields, field, [null, undefined]);
  const factor = readPositive(fields, 'factor', maxPositions / originalMaxPositions);
  return {
    type: 'yarn',
    factor,
    betaFast: readPositive(fields, 'beta_fast', 32),
    betaSlow: readPositive(fields, 'beta_slow', 1),
    originalMaxPositions,
    attentionFactor: readPositive(fields, 'attention_factor', factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1),
    truncate: readFlag(fields, 'truncate', true),
  };
}
