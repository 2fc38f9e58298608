import type { SwarmError } from '../../../common/errors.ts';
import { modelError } from '../errors.ts';
import type { Gemma3Config } from '../families/gemma3.ts';
import type { ModelConfig } from '../families.ts';
import { inverseFrequencies } from '../rope.ts';
import type { RopeConfig } from '../rope-config.ts';
import type { WrittenMetadata, WrittenValue } from './writer.ts';

/** The architecture name that llama.cpp uses for each family. llama.cpp runs Mistral models as Llama models. */
export const ARCHITECTURES: Readonly<Record<ModelConfig['family'], string>> = {
  llama: 'llama',
  mistral: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  gemma3_text: 'gemma3',
  gpt2: 'gpt2',
};

/** Number of layers of Gemma 3 27B, for which llama.cpp divides attention scores by a different number. */
export const GEMMA_27B_LAYERS = 62;
/** Base of the rotary positions that llama.cpp assumes for the sliding-window layers of Gemma 3. */
export const GEMMA_SLIDING_THETA = 10_000;
/** A layer of Gemma 3 has no window if its number, counted from 1, is a multiple of this number. */
export const GEMMA_PERIOD = 6;

/**
 * Describes a model in the metadata keys of llama.cpp.
 *
 * llama.cpp supports sliding attention windows only for Gemma 3. If a model of another family has windows, its context
 * length is the length of its smallest window, because a window changes nothing up to this length.
 *
 * @throws SwarmError GGUF_UNSUPPORTED if llama.cpp cannot compute the model exactly
 */
export function configMetadata(config: ModelConfig): WrittenMetadata {
  const prefix = ARCHITECTURES[config.family];
  const own: [string, WrittenValue][] = [
    ['block_count', u32(config.layers)],
    ['context_length', u32(contextLength(config))],
    ['embedding_length', u32(config.hiddenSize)],
    ['feed_forward_length', u32(config.intermediateSize)],
    ['attention.head_count', u32(config.heads)],
    ['attention.head_count_kv', u32(config.keyValueHeads)],
    ['vocab_size', u32(config.vocabularySize)],
    ...ownKeys(config),
  ];
  return new Map([
    ['general.architecture', { type: 'string', value: prefix }],
    ...own.map(([key, value]): [string, WrittenValue] => [`${prefix}.${key}`, value]),
  ]);
}

function ownKeys(config: ModelConfig): [string, WrittenValue][] {
  if (config.family === 'gpt2') {
    if (config.scaleByLayer)
      throw unsupported('attention scores that are divided by the number of the layer');
    return [['attention.layer_norm_epsilon', f32(config.normEpsilon)]];
  }
  const { headDim, normEpsilon, family } = config;
  if (family !== 'llama' && (config.outputBias || config.mlpBias))
    throw unsupported(`${family} with biases in attention outputs`);
  const shared: [string, WrittenValue][] = [
    ['attention.layer_norm_rms_epsilon', f32(normEpsilon)],
    ['attention.key_length', u32(headDim)],
    ['attention.value_length', u32(headDim)],
    ['rope.dimension_count', u32(headDim)],
  ];
  return family === 'gemma3_text' ? [...shared, ...gemmaKeys(config)] : [...shared, ...ropeKeys(config.rope)];
}

function gemmaKeys(config: Gemma3Config): [string, WrittenValue][] {
  const { windows, rope, layers, headDim, hiddenSize, heads } = config;
  const scalar = layers === GEMMA_27B_LAYERS ? hiddenSize / heads : headDim;
  if (config.queryScalar !== scalar)
    throw unsupported(`a Gemma 3 whose query_pre_attn_scalar is ${config.queryScalar}, not ${scalar}`);
  if (rope.sliding.scaling !== null) throw unsupported('scaled rotary positions in layers with a window');
  if (rope.full.scaling !== null && rope.full.scaling.type !== 'linear')
    throw unsupported(`a Gemma 3 with rotary positions of the type ${rope.full.scaling.type}`);
  const window = windows.find((one) => one !== null) ?? null;
  if (window === null) throw unsupported('a Gemma 3 without windows');
  const period = slidingPeriod(windows);
  const keys: [string, WrittenValue][] = [['attention.sliding_window', u32(window)], ...ropeKeys(rope.full)];
  if (period !== GEMMA_PERIOD) keys.push(['attention.sliding_window_pattern', u32(period)]);
  if (rope.sliding.theta !== GEMMA_SLIDING_THETA) keys.push(['rope.freq_base_swa', f32(rope.sliding.theta)]);
  return keys;
}

/** Returns the number p such that exactly the layers p, 2p, … (counted from 1) have no window. */
function slidingPeriod(windows: Gemma3Config['windows']): number {
  const first = windows.indexOf(null);
  // Without a layer of full attention, any period beyond the last layer is right.
  const period = first !== -1 ? first + 1 : Math.max(GEMMA_PERIOD, windows.length + 1);
  if (period < 2 || windows.some((window, layer) => (window === null) !== ((layer + 1) % period === 0)))
    throw unsupported('windows in an irregular sequence of layers');
  return period;
}

/** Returns the keys for rotary positions. Llama 3's scaling has no key, because a tensor holds it (see {@link ropeFactors}). */
function ropeKeys({ theta, scaling }: RopeConfig): [string, WrittenValue][] {
  const keys: [string, WrittenValue][] = [['rope.freq_base', f32(theta)]];
  if (scaling === null) return keys;
  if (scaling.type === 'llama3')
    return [...keys, ['rope.scaling.original_context_length', u32(scaling.originalMaxPositions)]];
  keys.push(['rope.scaling.type', { type: 'string', value: scaling.type }]);
  keys.push(['rope.scaling.factor', f32(scaling.factor)]);
  if (scaling.type === 'linear') return keys;
  const usual = scaling.factor <= 1 ? 1 : 0.1 * Math.log(scaling.factor) + 1;
  if (Math.abs(scaling.attentionFactor - usual) > 1e-6 || !scaling.truncate)
    throw unsupported('YaRN with a custom attention_factor, or without truncation');
  keys.push(['rope.scaling.original_context_length', u32(scaling.originalMaxPositions)]);
  keys.push(['rope.scaling.yarn_beta_fast', f32(scaling.betaFast)]);
  keys.push(['rope.scaling.yarn_beta_slow', f32(scaling.betaSlow)]);
  return keys;
}

/**
 * Returns the numbers by which llama.cpp divides the rotary frequencies, for the tensor `rope_freqs.weight` [D/2]; null
 * if the frequencies are not scaled as in Llama 3.
 */
export function ropeFactors(config: ModelConfig): Float32Array | null {
  if (config.family === 'gpt2' || config.family === 'gemma3_text') return null;
  const { rope, headDim } = config;
  if (rope.scaling?.type !== 'llama3') return null;
  const scaled = inverseFrequencies(rope, headDim);
  const plain = inverseFrequencies({ ...rope, scaling: null }, headDim);
  return Float32Array.from(scaled, (frequency, i) => plain[i]! / frequency);
}

function contextLength(config: ModelConfig): number {
  if (config.family === 'gpt2' || config.family === 'gemma3_text') return config.maxPositions;
  return config.windows.reduce<number>(
    (least, window) => Math.min(least, window ?? least),
    config.maxPositions,
  );
}

function u32(value: number): WrittenValue {
  return { type: 'u32', value };
}

function f32(value: number): WrittenValue {
  return { type: 'f32', value };
}

function unsupported(what: string): SwarmError {
  return modelError(
    'GGUF_UNSUPPORTED',
    `llama.cpp cannot compute ${what}, so the model cannot be written as GGUF`,
    { what },
    { next: 'export the model as a Hugging Face folder instead' },
  );
}
