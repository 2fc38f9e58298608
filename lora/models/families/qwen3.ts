import { type LlamaDecoderConfig, llamaDecoder } from '../blocks/llama-decoder.ts';
import { readFlag, readPositive, requireLanguageModel, requireOneOf } from '../config.ts';
import { readDimensions, readQwenWindows } from '../decoder-config.ts';
import { parseRope } from '../rope-config.ts';

export interface Qwen3Config extends LlamaDecoderConfig {
  readonly family: 'qwen3';
}

/** Qwen 3 (Yang et al. 2025, arXiv 2505.09388): a Llama that normalises each head of queries and keys. */
export const qwen3 = llamaDecoder<Qwen3Config>('qwen3', (json) => {
  requireLanguageModel(json, 'Qwen3ForCausalLM');
  requireOneOf(json, 'hidden_act', ['silu', undefined]);
  const dimensions = readDimensions(json, {
    keyValueHeads: 32,
    headDim: 128,
    maxPositions: 32_768,
    tieWordEmbeddings: false,
  });
  const attentionBias = readFlag(json, 'attention_bias', false);
  return {
    family: 'qwen3',
    ...dimensions,
    queryKeyValueBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: false,
    queryKeyNorm: true,
    windows: readQwenWindows(json, dimensions.layers),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
  };
});
