import type { Json } from '../config.ts';
import { MAX_LAYERS } from '../config.ts';
import { inverseFrequencies } from '../rope.ts';
import { GEMMA_27B_LAYERS, GEMMA_PERIOD, GEMMA_SLIDING_THETA } from './config-metadata.ts';
import { type Metadata, shortest } from './metadata.ts';

/** Facts about the tensors of a GGUF file that the config depends on. */
export interface TensorFacts {
  /** Returns whether the file has a tensor. */
  has(name: string): boolean;
  /** Number of rows of the embedding table. */
  readonly vocabularySize: number;
  /** Values of `rope_freqs.weight`; null if the file does not have it. */
  readonly ropeFactors: Float32Array | null;
}

/** transformers' model_type and class of each architecture of llama.cpp that this program reads. */
const FAMILIES: Readonly<Record<string, { readonly type: string; readonly className: string }>> = {
  llama: { type: 'llama', className: 'LlamaForCausalLM' },
  qwen2: { type: 'qwen2', className: 'Qwen2ForCausalLM' },
  qwen3: { type: 'qwen3', className: 'Qwen3ForCausalLM' },
  gemma3: { type: 'gemma3_text', className: 'Gemma3ForCausalLM' },
  gpt2: { type: 'gpt2', className: 'GPT2LMHeadModel' },
};

/**
 * Maximum number of dimensions of a head. The largest published head has 512. The limit is checked before parseConfig
 * runs, because `llama3Scaling` then computes a number for each pair of dimensions.
 */
const MAX_HEAD_DIM = 8192;

/** Original context length of Llama 3's RoPE scaling, if the file does not name a length. */
const LLAMA3_CONTEXT = 8192;
/**
 * Values of `low_freq_factor` and `high_freq_factor` in the config of every published model with Llama 3's
 * RoPE scaling.
 */
const LLAMA3_LOW = 1;
const LLAMA3_HIGH = 4;

/**
 * Makes the config.json of a model from the metadata of its GGUF file.
 * @throws SwarmError GGUF_METADATA if a key is missing or has a wrong type
 * @throws SwarmError GGUF_UNSUPPORTED if this program has no such architecture, or no such feature of a model
 */
export function configOf(metadata: Metadata, facts: TensorFacts): Json {
  const architecture = metadata.text('general.architecture');
  const family = Object.hasOwn(FAMILIES, architecture) ? FAMILIES[architecture] : undefined;
  if (family === undefined) throw metadata.unsupported(`the architecture ${JSON.stringify(architecture)}`);
  for (const feature of ['expert_count', 'final_logit_softcapping', 'attn_logit_softcapping']) {
    if (metadata.number(`${architecture}.${feature}`, 0) !== 0)
      throw metadata.unsupported(`${architecture}.${feature}`);
  }
  const shared = {
    architectures: [family.className],
    model_type: family.type,
    vocab_size: facts.vocabularySize,
    tie_word_embeddings: !facts.has('output.weight'),
    bos_token_id: metadata.number('tokenizer.ggml.bos_token_id', null),
    eos_token_id: metadata.number('tokenizer.ggml.eos_token_id', null),
  };
  if (family.type === 'gpt2') return { ...shared, ...gpt2Config(metadata) };
  const decoder = decoderConfig(metadata, architecture, facts);
  return family.type === 'gemma3_text'
    ? { ...shared, ...decoder, ...gemmaConfig(metadata, decoder) }
    : { ...shared, ...decoder, hidden_act: 'silu' };
}

function gpt2Config(metadata: Metadata): Json {
  return {
    n_embd: metadata.number('gpt2.embedding_length'),
    n_head: metadata.number('gpt2.attention.head_count'),
    n_layer: metadata.number('gpt2.block_count'),
    n_positions: metadata.number('gpt2.context_length'),
    n_inner: metadata.number('gpt2.feed_forward_length'),
    layer_norm_epsilon: shortest(metadata.number('gpt2.attention.layer_norm_epsilon')),
    activation_function: 'gelu_new',
  };
}

function decoderConfig(metadata: Metadata, architecture: string, facts: TensorFacts) {
  const number = (key: string) => metadata.number(`${architecture}.${key}`);
  const optional = (key: string, fallback: number) => metadata.number(`${architecture}.${key}`, fallback);
  const hidden = number('embedding_length');
  const heads = number('attention.head_count');
  const headDim = optional('attention.key_length', hidden / heads);
  // The comparison is negated so that it also refuses NaN, the result of 0 / 0 above.
  if (!(headDim <= MAX_HEAD_DIM))
    throw metadata.invalid(`${architecture}.attention.key_length`, `at most ${MAX_HEAD_DIM} per head`);
  for (const key of ['attention.value_length', 'rope.dimension_count'])
    if (optional(key, headDim) !== headDim)
      throw metadata.unsupported(`${architecture}.${key} other than the key length ${headDim}`);
  return {
    hidden_size: hidden,
    intermediate_size: number('feed_forward_length'),
    num_hidden_layers: number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: optional('attention.head_count_kv', heads),
    head_dim: headDim,
    max_position_embeddings: number('context_length'),
    rms_norm_eps: shortest(number('attention.layer_norm_rms_epsilon')),
    ...ropeConfig(metadata, architecture, { headDim, factors: facts.ropeFactors }),
    ...(architecture === 'llama' && {
      attention_bias: facts.has('blk.0.attn_q.bias'),
      mlp_bias: facts.has('blk.0.ffn_down.bias'),
    }),
  };
}

function ropeConfig(
  metadata: Metadata,
  architecture: string,
  { headDim, factors }: { headDim: number; factors: Float32Array | null },
): { rope_theta: number; rope_scaling: Json | null } {
  const at = (key: string) => `${architecture}.rope.${key}`;
  const theta = shortest(metadata.number(at('freq_base'), 10_000));
  const type = metadata.text(at('scaling.type'), 'none');
  const original = metadata.number(at('scaling.original_context_length'), null);
  if (factors !== null) {
    if (type !== 'none') throw metadata.unsupported(`both rope_freqs.weight and the scaling ${type}`);
    const scaling = llama3Scaling(factors, { theta, headDim, original: original ?? LLAMA3_CONTEXT });
    if (scaling === null) throw metadata.unsupported("factors in rope_freqs.weight that are not Llama 3's");
    return { rope_theta: theta, rope_scaling: scaling };
  }
  if (type === 'none') return { rope_theta: theta, rope_scaling: null };
  const attention = ['attn_factor', 'yarn_attn_factor', 'yarn_ext_factor', 'yarn_log_multiplier'];
  const other = attention.find((key) => metadata.has(at(`scaling.${key}`)));
  if ((type !== 'linear' && type !== 'yarn') || other !== undefined)
    throw metadata.unsupported(`the rotary scaling ${[type, other].filter(Boolean).join(' with ')}`);
  const factor = shortest(metadata.number(at('scaling.factor')));
  if (type === 'linear') return { rope_theta: theta, rope_scaling: { rope_type: type, factor } };
  return {
    rope_theta: theta,
    rope_scaling: {
      rope_type: type,
      factor,
      original_max_position_embeddings: original ?? metadata.number(`${architecture}.context_length`),
      beta_fast: shortest(metadata.number(at('scaling.yarn_beta_fast'), 32)),
      beta_slow: shortest(metadata.number(at('scaling.yarn_beta_slow'), 1)),
    },
  };
}

/**
 * Finds the settings of Llama 3's RoPE scaling that give the file's factors of the rotary frequencies. The file has
 * only these factors, so this function tries the settings that all published models share. Returns null if these
 * settings give other factors.
 */
function llama3Scaling(
  factors: Float32Array,
  { theta, headDim, original }: { theta: number; headDim: number; original: number },
): Json | null {
  if (factors.length !== headDim / 2) return null;
  const factor = shortest(factors.reduce((most, value) => Math.max(most, value), 1));
  const scaling = {
    type: 'llama3' as const,
    factor,
    lowFrequencyFactor: LLAMA3_LOW,
    highFrequencyFactor: LLAMA3_HIGH,
    originalMaxPositions: original,
  };
  const plain = inverseFrequencies({ theta, scaling: null }, headDim);
  const scaled = inverseFrequencies({ theta, scaling }, headDim);
  const same = factors.every((value, i) => Math.abs(value - plain[i]! / scaled[i]!) <= 1e-5 * value);
  if (!same) return null;
  return {
    rope_type: 'llama3',
    factor,
    low_freq_factor: LLAMA3_LOW,
    high_freq_factor: LLAMA3_HIGH,
    original_max_position_embeddings: original,
  };
}

function gemmaConfig(metadata: Metadata, decoder: ReturnType<typeof decoderConfig>): Json {
  const { num_hidden_layers: layers, head_dim: headDim, hidden_size: hidden } = decoder;
  if (decoder.rope_scaling !== null && decoder.rope_scaling.rope_type !== 'linear')
    throw metadata.unsupported(`the rotary scaling ${decoder.rope_scaling.rope_type}`);
  const period = metadata.number('gemma3.attention.sliding_window_pattern', GEMMA_PERIOD);
  if (layers > MAX_LAYERS) throw metadata.invalid('gemma3.block_count', `at most ${MAX_LAYERS}`);
  return {
    hidden_activation: 'gelu_pytorch_tanh',
    sliding_window: metadata.number('gemma3.attention.sliding_window'),
    layer_types: Array.from({ length: layers }, (_, layer) =>
      (layer + 1) % period === 0 ? 'full_attention' : 'sliding_attention',
    ),
    rope_local_base_freq: shortest(metadata.number('gemma3.rope.freq_base_swa', GEMMA_SLIDING_THETA)),
    query_pre_attn_scalar: layers === GEMMA_27B_LAYERS ? hidden / decoder.num_attention_heads : headDim,
  };
}
