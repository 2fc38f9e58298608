import {
  count,
  flag,
  invalid,
  isObject,
  type Json,
  MAX_POSITIONS,
  only,
  positive,
  unsupported,
} from './config.ts';

/** Frequencies of the rotary embedding: the base θ and, where the context was extended, how they are stretched. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling: RopeScaling | null;
}

/** How frequencies are stretched; what each does is said where they are computed (rope.ts). */
export type RopeScaling = LinearScaling | Llama3Scaling | YarnScaling;

/** Every frequency is divided by `factor`. */
export interface LinearScaling {
  readonly type: 'linear';
  readonly factor: number;
}

/** Llama 3.1: long wavelengths are divided by `factor`, short ones kept, the rest blended. */
export interface Llama3Scaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalMaxPositions: number;
}

/** YaRN: frequencies are blended by their turns within the trained context, and the scores are sharpened. */
export interface YarnScaling {
  readonly type: 'yarn';
  readonly factor: number;
  /** Turns within the trained context above which a frequency is kept, and below which it is divided. */
  readonly betaFast: number;
  readonly betaSlow: number;
  readonly originalMaxPositions: number;
  /** Factor of cos and sin. */
  readonly attentionFactor: number;
  /** Whether the bounds of the blend are rounded to whole dimensions. */
  readonly truncate: boolean;
}

/** Names of layer types, under which Gemma 3's `rope_parameters` are nested. */
const LAYER_TYPES = ['full_attention', 'sliding_attention'];

/**
 * Rotary positions that are the same in all layers: `rope_theta` and `rope_scaling` of transformers 4, or
 * `rope_parameters` of transformers 5. Where a file has both, the former win, as in transformers.
 * @throws SwarmError MODEL_CONFIG, MODEL_UNSUPPORTED
 */
export function parseRope(json: Json): RopeConfig {
  const fields = ropeFields(json);
  for (const type of LAYER_TYPES)
    if (type in fields)
      throw unsupported('rope_parameters', Object.keys(fields), ['rope_type', 'rope_theta']);
  return parseRopeFields(json, fields, positive(json, 'rope_theta', 10_000));
}

/** The object that describes the positions; empty when they are plain. */
export function ropeFields(json: Json): Json {
  for (const field of ['rope_scaling', 'rope_parameters']) {
    const value = json[field] ?? {};
    if (!isObject(value)) throw invalid(field, 'an object', value);
    if (Object.keys(value).length > 0) return value;
  }
  return {};
}

/**
 * @param json the whole config, for what stands outside of `fields`
 * @param theta base where `fields` do not name one
 */
export function parseRopeFields(json: Json, fields: Json, theta: number): RopeConfig {
  for (const holder of [json, fields]) only(holder, 'partial_rotary_factor', [1, null, undefined]);
  return { theta: positive(fields, 'rope_theta', theta), scaling: parseScaling(json, fields) };
}

function parseScaling(json: Json, fields: Json): RopeScaling | null {
  // Files from before transformers 4.45 say `type`.
  const type = fields.rope_type ?? fields.type ?? 'default';
  if (type === 'default') return null;
  if (type === 'linear') return { type, factor: positive(fields, 'factor') };
  if (type !== 'llama3' && type !== 'yarn')
    throw unsupported('rope_type', type, ['default', 'linear', 'llama3', 'yarn']);
  const maxPositions = count(json, 'max_position_embeddings', undefined, MAX_POSITIONS);
  const holder = json.original_max_position_embeddings === undefined ? fields : json;
  const originalMaxPositions = count(holder, 'original_max_position_embeddings', maxPositions, MAX_POSITIONS);
  return type === 'llama3'
    ? parseLlama3(fields, originalMaxPositions)
    : parseYarn(fields, originalMaxPositions, maxPositions);
}

function parseLlama3(fields: Json, originalMaxPositions: number): Llama3Scaling {
  const lowFrequencyFactor = positive(fields, 'low_freq_factor');
  const highFrequencyFactor = positive(fields, 'high_freq_factor');
  if (highFrequencyFactor <= lowFrequencyFactor)
    throw invalid(
      'high_freq_factor',
      `more than low_freq_factor (${lowFrequencyFactor})`,
      highFrequencyFactor,
    );
  const factor = positive(fields, 'factor');
  return { type: 'llama3', factor, lowFrequencyFactor, highFrequencyFactor, originalMaxPositions };
}

function parseYarn(fields: Json, originalMaxPositions: number, maxPositions: number): YarnScaling {
  // DeepSeek's way of setting the attention factor.
  for (const field of ['mscale', 'mscale_all_dim']) only(fields, field, [null, undefined]);
  const factor = positive(fields, 'factor', maxPositions / originalMaxPositions);
  return {
    type: 'yarn',
    factor,
    betaFast: positive(fields, 'beta_fast', 32),
    betaSlow: positive(fields, 'beta_slow', 1),
    originalMaxPositions,
    attentionFactor: positive(fields, 'attention_factor', factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1),
    truncate: flag(fields, 'truncate', true),
  };
}
