import { type LlamaDecoderConfig, llamaDecoder } from '../blocks/llama-decoder.ts';
import { flag, only, positive, requireLanguageModel } from '../config.ts';
import { noWindows, readDimensions } from '../decoder-config.ts';
import { parseRope } from '../rope-config.ts';

export interface LlamaConfig extends LlamaDecoderConfig {
  readonly family: 'llama';
}

/** Llama 1 to 3 (Grattafiori et al. 2024, arXiv 2407.21783), and models with the same layout such as SmolLM2. */
export const llama = llamaDecoder<LlamaConfig>('llama', (json) => {
  requireLanguageModel(json, 'LlamaForCausalLM');
  only(json, 'hidden_act', ['silu', undefined]);
  only(json, 'rope_interleaved', [false, undefined]);
  const dimensions = readDimensions(json, { maxPositions: 2048, tieWordEmbeddings: false });
  const attentionBias = flag(json, 'attention_bias', false);
  return {
    family: 'llama',
    ...dimensions,
    queryKeyValueBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: flag(json, 'mlp_bias', false),
    queryKeyNorm: false,
    windows: noWindows(dimensions.layers),
    normEpsilon: positive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
  };
});
