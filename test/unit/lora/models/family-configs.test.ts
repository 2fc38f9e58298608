import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../../lora/models/families.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** The relevant fields of published configs, in the layout of transformers 4. */
const MISTRAL_7B = {
  architectures: ['MistralForCausalLM'],
  hidden_act: 'silu',
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  model_type: 'mistral',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  sliding_window: 4096,
  tie_word_embeddings: false,
  vocab_size: 32000,
};

const QWEN25_HALF_B = {
  architectures: ['Qwen2ForCausalLM'],
  hidden_act: 'silu',
  hidden_size: 896,
  intermediate_size: 4864,
  max_position_embeddings: 32768,
  max_window_layers: 24,
  model_type: 'qwen2',
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  sliding_window: 32768,
  tie_word_embeddings: true,
  use_sliding_window: false,
  vocab_size: 151936,
};

const QWEN3_HALF_B = {
  architectures: ['Qwen3ForCausalLM'],
  attention_bias: false,
  head_dim: 128,
  hidden_act: 'silu',
  hidden_size: 1024,
  intermediate_size: 3072,
  max_position_embeddings: 40960,
  max_window_layers: 28,
  model_type: 'qwen3',
  num_attention_heads: 16,
  num_hidden_layers: 28,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: null,
  tie_word_embeddings: true,
  use_sliding_window: false,
  vocab_size: 151936,
};

const GEMMA3_1B = {
  architectures: ['Gemma3ForCausalLM'],
  attention_bias: false,
  attn_logit_softcapping: null,
  final_logit_softcapping: null,
  head_dim: 256,
  hidden_activation: 'gelu_pytorch_tanh',
  hidden_size: 1152,
  intermediate_size: 6912,
  max_position_embeddings: 32768,
  model_type: 'gemma3_text',
  num_attention_heads: 4,
  num_hidden_layers: 26,
  num_key_value_heads: 1,
  query_pre_attn_scalar: 256,
  rms_norm_eps: 1e-6,
  rope_local_base_freq: 10000,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: 512,
  sliding_window_pattern: 6,
  vocab_size: 262144,
};

const GPT2 = {
  activation_function: 'gelu_new',
  architectures: ['GPT2LMHeadModel'],
  layer_norm_epsilon: 1e-5,
  model_type: 'gpt2',
  n_ctx: 1024,
  n_embd: 768,
  n_head: 12,
  n_layer: 12,
  n_positions: 1024,
  vocab_size: 50257,
};

const refused = (field: string) => withCode('MODEL_UNSUPPORTED', { field });
const malformed = (field: string) => withCode('MODEL_CONFIG', { field });

describe('Mistral', () => {
  test('all layers have the window, or none has', () => {
    expect(parseConfig(MISTRAL_7B)).toMatchObject({ headDim: 128, windows: new Array(32).fill(4096) });
    const { sliding_window, ...without } = MISTRAL_7B;
    expect(parseConfig(without)).toEqual(parseConfig(MISTRAL_7B));
    expect(parseConfig({ ...without, sliding_window: null })).toMatchObject({
      windows: new Array(32).fill(null),
    });
  });

  test('has 8 key-value heads if the field is missing, as many as heads if it is null', () => {
    const { num_key_value_heads, ...rest } = MISTRAL_7B;
    expect(parseConfig(rest)).toMatchObject({ keyValueHeads: 8 });
    expect(parseConfig({ ...rest, num_key_value_heads: null })).toMatchObject({ keyValueHeads: 32 });
  });

  test('refuses layers of different types', () => {
    const types = (first: string) => [first, ...new Array<string>(31).fill('sliding_attention')];
    expect(parseConfig({ ...MISTRAL_7B, layer_types: types('sliding_attention') })).toEqual(
      parseConfig(MISTRAL_7B),
    );
    const mixed = { ...MISTRAL_7B, layer_types: types('full_attention') };
    expect(() => parseConfig(mixed)).toThrow(refused('layer_types'));
  });
});

describe.each([
  ['qwen2', QWEN25_HALF_B],
  ['qwen3', QWEN3_HALF_B],
])('%s', (_, json) => {
  const { num_hidden_layers: layers } = json;

  test('has no windows as published', () => {
    expect(parseConfig(json)).toMatchObject({
      windows: new Array(layers).fill(null),
      rope: { theta: 1000000, scaling: null },
    });
  });

  test('with use_sliding_window, layers from max_window_layers on have a window', () => {
    const fields = { use_sliding_window: true, sliding_window: 512, max_window_layers: layers - 2 };
    const windows = [...new Array<null>(layers - 2).fill(null), 512, 512];
    expect(parseConfig({ ...json, ...fields })).toMatchObject({ windows });
    expect(parseConfig({ ...json, ...fields, max_window_layers: 0 })).toMatchObject({
      windows: new Array(layers).fill(512),
    });
  });

  test('layer_types override the rule, and are checked', () => {
    const types = ['sliding_attention', ...new Array<string>(layers - 1).fill('full_attention')];
    const sliding = { ...json, use_sliding_window: true, sliding_window: 8, max_window_layers: layers };
    expect(parseConfig({ ...sliding, layer_types: types })).toMatchObject({
      windows: [8, ...new Array<null>(layers - 1).fill(null)],
    });
    expect(() => parseConfig({ ...json, layer_types: types })).toThrow(malformed('sliding_window'));
    expect(() => parseConfig({ ...sliding, layer_types: types.slice(1) })).toThrow(malformed('layer_types'));
    expect(() => parseConfig({ ...sliding, layer_types: types.with(3, 'linear_attention') })).toThrow(
      refused('layer_types'),
    );
  });
});

test('the Qwen families have their biases and norms', () => {
  expect(parseConfig(QWEN25_HALF_B)).toMatchObject({
    headDim: 64,
    queryKeyValueBias: true,
    outputBias: false,
    queryKeyNorm: false,
  });
  expect(parseConfig(QWEN3_HALF_B)).toMatchObject({
    headDim: 128,
    queryKeyValueBias: false,
    outputBias: false,
    queryKeyNorm: true,
  });
  const { head_dim, ...rest } = QWEN3_HALF_B;
  expect(parseConfig({ ...rest, attention_bias: true })).toMatchObject({
    headDim: 128,
    queryKeyValueBias: true,
    outputBias: true,
  });
});

describe('Gemma 3', () => {
  test('every sixth layer has full attention and another rotary base', () => {
    const windows = Array.from({ length: 26 }, (_, layer) => (layer % 6 === 5 ? null : 512));
    expect(parseConfig(GEMMA3_1B)).toMatchObject({
      tieWordEmbeddings: true,
      queryScalar: 256,
      windows,
      rope: { full: { theta: 1000000, scaling: null }, sliding: { theta: 10000, scaling: null } },
    });
  });

  test('parses the layout of transformers 5 to the same config', () => {
    const { rope_theta, rope_local_base_freq, rope_scaling, sliding_window_pattern, ...rest } = GEMMA3_1B;
    const layer_types = Array.from({ length: 26 }, (_, layer) =>
      layer % 6 === 5 ? 'full_attention' : 'sliding_attention',
    );
    const rope_parameters = {
      full_attention: { rope_type: 'default', rope_theta: 1000000 },
      sliding_attention: { rope_type: 'default', rope_theta: 10000 },
    };
    expect(parseConfig({ ...rest, layer_types, rope_parameters })).toEqual(parseConfig(GEMMA3_1B));
  });

  test('rope_scaling applies only to layers with full attention', () => {
    const scaled = { ...GEMMA3_1B, rope_scaling: { rope_type: 'linear', factor: 8 } };
    expect(parseConfig(scaled)).toMatchObject({
      rope: { full: { scaling: { type: 'linear', factor: 8 } }, sliding: { scaling: null } },
    });
  });

  test.each([
    ['model_type', 'gemma3'],
    ['hidden_activation', 'gelu'],
    ['attn_logit_softcapping', 50],
    ['final_logit_softcapping', 30],
    ['use_bidirectional_attention', true],
    ['rope_parameters', { rope_type: 'default', rope_theta: 1000000 }],
  ])('refuses %s = %j', (field, value) => {
    expect(() => parseConfig({ ...GEMMA3_1B, [field]: value })).toThrow(refused(field));
  });
});

describe('GPT-2', () => {
  test('parses the published config', () => {
    expect(parseConfig(GPT2)).toEqual({
      family: 'gpt2',
      vocabularySize: 50257,
      hiddenSize: 768,
      intermediateSize: 3072,
      layers: 12,
      heads: 12,
      keyValueHeads: 12,
      headDim: 64,
      maxPositions: 1024,
      tieWordEmbeddings: true,
      normEpsilon: 1e-5,
      scaleByLayer: false,
    });
    expect(parseConfig({ ...GPT2, n_inner: null })).toEqual(parseConfig(GPT2));
  });

  test.each([
    ['activation_function', 'relu'],
    ['activation_function', 'gelu'],
    ['scale_attn_weights', false],
    ['add_cross_attention', true],
    ['architectures', ['GPT2ForSequenceClassification']],
    ['quantization_config', { bits: 4 }],
  ])('refuses %s = %j', (field, value) => {
    expect(() => parseConfig({ ...GPT2, [field]: value })).toThrow(refused(field));
  });

  test('refuses a width that is not a multiple of the heads', () => {
    expect(() => parseConfig({ ...GPT2, n_head: 11 })).toThrow(malformed('n_embd'));
  });
});

test.each([MISTRAL_7B, QWEN25_HALF_B, QWEN3_HALF_B])(
  'refuses positions nested by layer type: $model_type',
  (json) => {
    const rope_parameters = { full_attention: { rope_type: 'default', rope_theta: 1 } };
    expect(() => parseConfig({ ...json, rope_parameters })).toThrow(refused('rope_parameters'));
  },
);

test.each([MISTRAL_7B, QWEN25_HALF_B, QWEN3_HALF_B])(
  'parses the layout of transformers 5 to the same config: $model_type',
  (json) => {
    const { rope_theta, ...rest } = json;
    const rope_parameters = { rope_type: 'default', rope_theta };
    expect(parseConfig({ ...rest, rope_parameters })).toEqual(parseConfig(json));
  },
);
