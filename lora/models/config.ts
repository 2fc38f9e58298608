import { SwarmError } from '../../protocol/errors.ts';

/** Frequencies of the rotary embedding: the base θ and, for Llama 3.1 and later, how they are stretched. */
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

/** What `config.json` says about a Llama, with its defaults filled in. */
export interface ModelConfig {
  readonly family: 'llama';
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly normEpsilon: number;
  readonly rope: RopeConfig;
  readonly maxPositions: number;
  readonly tieWordEmbeddings: boolean;
}

/**
 * Largest value of any dimension or count in a config. A config comes from a stranger and is read before
 * its weights are: 2^21 is above every vocabulary in use (262,144 at the time of writing).
 */
export const MAX_DIMENSION = 2 ** 21;

/** Most layers: the list of parameters is built from this number alone. Llama 3.1 405B has 126. */
export const MAX_LAYERS = 1024;

type Json = Record<string, unknown>;

/**
 * Reads a Hugging Face `config.json` of a Llama, in the layout of transformers 4 (`rope_theta`,
 * `rope_scaling`) or 5 (`rope_parameters`). Missing fields take the defaults of transformers' LlamaConfig.
 *
 * @throws SwarmError MODEL_CONFIG a field is missing or is not the number it has to be
 * @throws SwarmError MODEL_UNSUPPORTED a field asks for something this engine does not compute
 */
export function parseConfig(json: unknown): ModelConfig {
  if (!isObject(json)) throw invalid('config.json', 'a JSON object', json);
  only(json, 'model_type', ['llama']);
  only(json, 'hidden_act', ['silu', undefined]);
  only(json, 'attention_bias', [false, undefined]);
  only(json, 'mlp_bias', [false, undefined]);
  only(json, 'quantization_config', [null, undefined]);
  if (json.architectures !== undefined && json.architectures !== null) {
    const names = json.architectures;
    if (!Array.isArray(names) || !names.includes('LlamaForCausalLM'))
      throw unsupported('architectures', names, ['LlamaForCausalLM']);
  }

  const hiddenSize = count(json, 'hidden_size');
  const heads = count(json, 'num_attention_heads');
  const keyValueHeads = count(json, 'num_key_value_heads', heads);
  if (heads % keyValueHeads !== 0)
    throw invalid('num_key_value_heads', `a divisor of num_attention_heads (${heads})`, keyValueHeads);
  if ((json.head_dim ?? null) === null && hiddenSize % heads !== 0)
    throw invalid('hidden_size', `a multiple of num_attention_heads (${heads})`, hiddenSize);
  const headDim = count(json, 'head_dim', hiddenSize / heads);
  if (headDim % 2 !== 0) throw invalid('head_dim', 'an even number (rotary pairs)', headDim);

  return {
    family: 'llama',
    vocabularySize: count(json, 'vocab_size'),
    hiddenSize,
    intermediateSize: count(json, 'intermediate_size'),
    layers: count(json, 'num_hidden_layers', undefined, MAX_LAYERS),
    heads,
    keyValueHeads,
    headDim,
    normEpsilon: positive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
    maxPositions: count(json, 'max_position_embeddings', 2048, 2 ** 31),
    tieWordEmbeddings: flag(json, 'tie_word_embeddings', false),
  };
}

/** `rope_parameters` of transformers 5 wins over `rope_theta` + `rope_scaling` of transformers 4. */
function parseRope(json: Json): RopeConfig {
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
    originalMaxPositions: count(fields, 'original_max_position_embeddings', undefined, 2 ** 31),
  };
  if (scaling.highFrequencyFactor <= scaling.lowFrequencyFactor)
    throw invalid(
      'high_freq_factor',
      `more than low_freq_factor (${scaling.lowFrequencyFactor})`,
      scaling.highFrequencyFactor,
    );
  return { theta, scaling };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function count(json: Json, field: string, fallback?: number, limit = MAX_DIMENSION): number {
  const value = json[field] ?? fallback;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > limit)
    throw invalid(field, `a whole number from 1 to ${limit}`, json[field]);
  return value;
}

function positive(json: Json, field: string, fallback?: number): number {
  const value = json[field] ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
    throw invalid(field, 'a positive number', json[field]);
  return value;
}

function flag(json: Json, field: string, fallback: boolean): boolean {
  const value = json[field] ?? fallback;
  if (typeof value !== 'boolean') throw invalid(field, 'true or false', value);
  return value;
}

function only(json: Json, field: string, allowed: readonly unknown[]): void {
  if (!allowed.includes(json[field])) throw unsupported(field, json[field], allowed);
}

function invalid(field: string, expected: string, found: unknown): SwarmError {
  return new SwarmError(
    'MODEL_CONFIG',
    `config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, expected ${expected}; get the model's own config.json again`,
    { field, expected, found },
  );
}

function unsupported(field: string, found: unknown, allowed: readonly unknown[]): SwarmError {
  const known = allowed.filter((value) => value !== undefined).map((value) => JSON.stringify(value));
  return new SwarmError(
    'MODEL_UNSUPPORTED',
    `config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, which this engine does not compute (it knows ${known.join(', ')}); choose another base model`,
    { field, found, supported: allowed.filter((value) => value !== undefined) },
  );
}
