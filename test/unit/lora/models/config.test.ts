import { expect, test } from 'vitest';
import { parseConfig } from '../../../../lora/models/families.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** config.json of Llama 3.2 1B in the layout of transformers 4. */
const LLAMA_32 = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  head_dim: 64,
  hidden_act: 'silu',
  hidden_size: 2048,
  intermediate_size: 8192,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 16,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 32,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500000,
  tie_word_embeddings: true,
  vocab_size: 128256,
};

const MINIMAL = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  vocab_size: 300,
};

test('parses Llama 3.2 in the layout of transformers 4', () => {
  expect(parseConfig(LLAMA_32)).toEqual({
    family: 'llama',
    vocabularySize: 128256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    layers: 16,
    heads: 32,
    keyValueHeads: 8,
    headDim: 64,
    queryKeyValueBias: false,
    outputBias: false,
    mlpBias: false,
    queryKeyNorm: false,
    windows: new Array(16).fill(null),
    normEpsilon: 1e-5,
    rope: {
      theta: 500000,
      scaling: {
        type: 'llama3',
        factor: 32,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalMaxPositions: 8192,
      },
    },
    maxPositions: 131072,
    tieWordEmbeddings: true,
  });
});

test('parses the layout of transformers 5 to the same config', () => {
  const { rope_scaling, rope_theta, ...rest } = LLAMA_32;
  const config = parseConfig({ ...rest, rope_parameters: { ...rope_scaling, rope_theta } });
  expect(config).toEqual(parseConfig(LLAMA_32));
});

test('missing fields have the defaults of LlamaConfig', () => {
  expect(parseConfig(MINIMAL)).toMatchObject({
    keyValueHeads: 4,
    headDim: 16,
    normEpsilon: 1e-6,
    rope: { theta: 10000, scaling: null },
    maxPositions: 2048,
    tieWordEmbeddings: false,
  });
  expect(parseConfig({ ...MINIMAL, head_dim: null, rope_scaling: null })).toEqual(parseConfig(MINIMAL));
});

test.each([
  ['model_type', 'mixtral'],
  ['model_type', 'toString'],
  ['model_type', undefined],
  ['hidden_act', 'gelu'],
  ['rope_interleaved', true],
  ['quantization_config', { bits: 4 }],
  ['transformers_weights', 'other.safetensors'],
  ['architectures', ['LlamaForSequenceClassification']],
  ['partial_rotary_factor', 0.5],
])('refuses %s = %j as unsupported', (field, value) => {
  expect(() => parseConfig({ ...MINIMAL, [field]: value })).toThrow(
    withCode('MODEL_UNSUPPORTED', { field, found: value }),
  );
});

test.each([
  { rope_scaling: { type: 'longrope', factor: 2 } },
  { rope_scaling: { rope_type: 7 } },
  { rope_parameters: { rope_type: 'dynamic', factor: 2, rope_theta: 1e4 } },
])('refuses positions %j as unsupported', (fields) => {
  expect(() => parseConfig({ ...MINIMAL, ...fields })).toThrow(
    withCode('MODEL_UNSUPPORTED', { field: 'rope_type' }),
  );
});

test.each([
  ['hidden_size', undefined],
  ['hidden_size', 63],
  ['hidden_size', 2 ** 40],
  ['num_hidden_layers', 1e9],
  ['num_hidden_layers', 0],
  ['vocab_size', '300'],
  ['vocab_size', 1.5],
  ['num_key_value_heads', 3],
  ['head_dim', 15],
  ['rms_norm_eps', -1],
  ['rms_norm_eps', Number.NaN],
  ['rope_theta', 0],
  ['tie_word_embeddings', 'yes'],
  ['rope_parameters', 7],
  ['attention_bias', 1],
])('refuses %s = %j as malformed', (field, value) => {
  expect(() => parseConfig({ ...MINIMAL, [field]: value })).toThrow(withCode('MODEL_CONFIG', { field }));
});

test('has biases if the config asks for them', () => {
  expect(parseConfig({ ...MINIMAL, attention_bias: true, mlp_bias: true })).toMatchObject({
    queryKeyValueBias: true,
    outputBias: true,
    mlpBias: true,
  });
});

test.each([
  [{ rope_scaling: { type: 'linear', factor: 2 } }, { type: 'linear', factor: 2 }],
  [
    { rope_scaling: { rope_type: 'yarn', factor: 4 }, max_position_embeddings: 512 },
    {
      type: 'yarn',
      factor: 4,
      betaFast: 32,
      betaSlow: 1,
      originalMaxPositions: 512,
      attentionFactor: 0.1 * Math.log(4) + 1,
      truncate: true,
    },
  ],
])('parses positions %j', (fields, scaling) => {
  expect(parseConfig({ ...MINIMAL, ...fields })).toMatchObject({ rope: { theta: 10000, scaling } });
});

test('if both layouts of positions are present, the older wins, as in transformers', () => {
  const both = { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_theta: 5 } };
  const parsed = parseConfig({ ...MINIMAL, ...both, rope_theta: 7 });
  expect(parsed).toMatchObject({ rope: { theta: 7, scaling: { type: 'linear' } } });
});

test.each([null, [], 'llama'])('refuses a config that is not an object: %j', (json) => {
  expect(() => parseConfig(json)).toThrow(withCode('MODEL_CONFIG'));
});
