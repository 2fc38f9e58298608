import { count, invalid, isObject, type Json, MAX_POSITIONS, only, positive, unsupported } from './config.ts';

/** Frequencies of the rotary embedding: the base θ and, where the context was extended, how they are stretched. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling: Llama3Scaling | null;
}

/** `rope_type: "llama3"`: long wavelengths are divided by `factor`, short ones kept, the rest blended. */
export interface Llama3Scaling {
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalMaxPositions: number;
}

/** `rope_parameters` of transformers 5 wins over `rope_theta` + `rope_scaling` of transformers 4. */
export function parseRope(json: Json): RopeConfig {
  const fields = json.rope_parameters ?? json.rope_scaling ?? {};
  if (!isObject(fields)) throw invalid('rope_parameters', 'an object', fields);
  const theta = positive(fields.rope_theta === undefined ? json : fields, 'rope_theta', 10_000);
  for (const holder of [json, fields]) only(holder, 'partial_rotary_factor', [1, undefined]);
  // Files from before transformers 4.45 say `type`.
  const type = fields.rope_type ?? fields.type ?? 'default';
  if (type === 'default') return { theta, scaling: null };
  if (type !== 'llama3') throw unsupported('rope_type', type, ['default', 'llama3']);
  const scaling: Llama3Scaling = {
    factor: positive(fields, 'factor'),
    lowFrequencyFactor: positive(fields, 'low_freq_factor'),
    highFrequencyFactor: positive(fields, 'high_freq_factor'),
    originalMaxPositions: count(fields, 'original_max_position_embeddings', undefined, MAX_POSITIONS),
  };
  if (scaling.highFrequencyFactor <= scaling.lowFrequencyFactor)
    throw invalid(
      'high_freq_factor',
      `more than low_freq_factor (${scaling.lowFrequencyFactor})`,
      scaling.highFrequencyFactor,
    );
  return { theta, scaling };
}
