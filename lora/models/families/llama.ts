import { type LlamaDecoderConfig, llamaDecoder } from '../blocks/llama-decoder.ts';
import { readFlag, readPositive, requireLanguageModel, requireOneOf } from '../config.ts';
import { noWindows, readDimensions } from '../decoder-config.ts';
import { parseRope } from '../rope-config.ts';

export interface LlamaConfig extends LlamaDecoderConfig {
  readonly family: 'llama';
}

/** Llama 1 to 3 (Grattafiori et al. 2024, arXiv 2407.21783), and models with the same layout such as SmolLM2. */
export const llama = llamaDecoder<LlamaConfig>('llama', (json) => {
  requireLanguageModel(json, 'LlamaForCausalLM');
  requireOneOf(json, 'hidden_act', ['silu', undefined]);
  requireOneOf(json, 'rope_interleaved', [false, undefined]);
  const dimensions = readDimensions(json, { maxPositions: 2048, tieWordEmbeddings: false });
  const attentionBias = readFlag(json, 'attention_bias', false);
  return {
    family: 'llama',
    ...dimensions,
    queryKeyValueBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: readFlag(json, 'mlp_bias', false),
    queryKeyNorm: false,
    windows: noWindows(dimensions.layers),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
  };
});
