import { type DecoderConfig, decoder } from '../blocks/decoder.ts';
import {
  count,
  flag,
  invalid,
  type Json,
  MAX_LAYERS,
  MAX_POSITIONS,
  only,
  positive,
  requireLanguageModel,
} from '../config.ts';
import { parseRope } from '../rope-config.ts';

export interface LlamaConfig extends DecoderConfig {
  readonly family: 'llama';
}

/** Llama 1 to 3 and what shares their layout, such as SmolLM2 (Grattafiori et al. 2024, arXiv 2407.21783). */
export const llama = decoder<LlamaConfig>('llama', (json: Json) => {
  requireLanguageModel(json, 'LlamaForCausalLM');
  only(json, 'hidden_act', ['silu', undefined]);
  only(json, 'attention_bias', [false, undefined]);
  only(json, 'mlp_bias', [false, undefined]);

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
    queryKeyValueBias: false,
    outputBias: false,
    mlpBias: false,
    normEpsilon: positive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
    maxPositions: count(json, 'max_position_embeddings', 2048, MAX_POSITIONS),
    tieWordEmbeddings: flag(json, 'tie_word_embeddings', false),
  };
});
