import type { CommonConfig, Json } from './config.ts';
import { invalid, MAX_LAYERS, MAX_POSITIONS, readCount, readFlag, unsupported } from './config.ts';

/** Defaults of transformers' config class of a family. */
export interface DecoderDefaults {
  /**
   * Number of key-value heads if the config lacks the field `num_key_value_heads`. Default: the number of attention
   * heads. If the field is null, the number of key-value heads is always the number of attention heads.
   */
  readonly keyValueHeads?: number;
  /** Size of a head. Default: hidden size / number of attention heads. */
  readonly headDim?: number;
  readonly maxPositions: number;
  readonly tieWordEmbeddings: boolean;
}

/**
 * Reads the sizes whose field names are the same in all rotary decoders.
 * @throws SwarmError MODEL_CONFIG
 */
export function readDimensions(json: Json, defaults: DecoderDefaults): Omit<CommonConfig, 'family'> {
  const hiddenSize = readCount(json, 'hidden_size');
  const heads = readCount(json, 'num_attention_heads');
  const missing = json.num_key_value_heads === undefined ? (defaults.keyValueHeads ?? heads) : heads;
  const keyValueHeads = readCount(json, 'num_key_value_heads', missing);
  if (heads % keyValueHeads !== 0)
    throw invalid('num_key_value_heads', `a divisor of num_attention_heads (${heads})`, keyValueHeads);
  const derived = defaults.headDim ?? hiddenSize / heads;
  if ((json.head_dim ?? null) === null && !Number.isInteger(derived))
    throw invalid('hidden_size', `a multiple of num_attention_heads (${heads})`, hiddenSize);
  const headDim = readCount(json, 'head_dim', derived);
  if (headDim % 2 !== 0) throw invalid('head_dim', 'an even number (rotary pairs)', headDim);
  return {
    vocabularySize: readCount(json, 'vocab_size'),
    hiddenSize,
    intermediateSize: readCount(json, 'intermediate_size'),
    layers: readCount(json, 'num_hidden_layers', undefined, MAX_LAYERS),
    heads,
    keyValueHeads,
    headDim,
    maxPositions: readCount(json, 'max_position_embeddings', defaults.maxPositions, MAX_POSITIONS),
    tieWordEmbeddings: readFlag(json, 'tie_word_embeddings', defaults.tieWordEmbeddings),
  };
}

/**
 * Attention window of each layer: the number of tokens that a token sees, itself included. It is null for a
 * layer without a window.
 */
export type Windows = readonly (number | null)[];

/** Returns null for each layer: the windows of a model without sliding attention. */
export function noWindows(layers: number): Windows {
  return new Array<null>(layers).fill(null);
}

/**
 * Reads `sliding_window`, in tokens. Null means that there is no window.
 * @param missing the window if the config lacks the field
 * @throws SwarmError MODEL_CONFIG
 */
export function readWindow(json: Json, missing: number): number | null {
  const value = json.sliding_window === undefined ? missing : json.sliding_window;
  return value === null
    ? null
    : readCount({ sliding_window: value }, 'sliding_window', undefined, MAX_POSITIONS);
}

/**
 * Returns the window of each layer, from `layer_types` or, without that field, from the family's rule `isSliding`.
 * @throws SwarmError MODEL_CONFIG if the list does not have one type per layer, or a sliding layer has no
 *   window
 * @throws SwarmError MODEL_UNSUPPORTED if a type is neither full nor sliding attention
 */
export function layerWindows(
  json: Json,
  layers: number,
  window: number | null,
  isSliding: (layer: number) => boolean,
): Windows {
  const types: unknown = json.layer_types ?? null;
  if (types !== null && !(Array.isArray(types) && types.length === layers))
    throw invalid('layer_types', `a list of num_hidden_layers (${layers}) types`, types);
  return Array.from({ length: layers }, (_, layer) => {
    const type = types?.[layer] ?? (isSliding(layer) ? 'sliding_attention' : 'full_attention');
    if (type === 'full_attention') return null;
    if (type !== 'sliding_attention')
      throw unsupported('layer_types', type, ['full_attention', 'sliding_attention']);
    if (window === null)
      throw invalid('sliding_window', 'a number of tokens, because some layers have a window', window);
    return window;
  });
}

/**
 * Reads the windows of the Qwen families: with `use_sliding_window`, the layers from index `max_window_layers` on have
 * a window.
 * @throws the errors of layerWindows
 */
export function readQwenWindows(json: Json, layers: number): Windows {
  const window = readFlag(json, 'use_sliding_window', false) ? readWindow(json, 4096) : null;
  const full = readCount(json, 'max_window_layers', 28, MAX_LAYERS, 0);
  return layerWindows(json, layers, window, (layer) => window !== null && layer >= full);
}
