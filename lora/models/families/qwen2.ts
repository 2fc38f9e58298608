import { type LlamaDecoderConfig, llamaDecoder } from '../blocks/llama-decoder.ts';
import { readPositive, requireLanguageModel, requireOneOf } from '../config.ts';
import { readDimensions, readQwenWindows } from '../decoder-config.ts';
import { parseRope } from '../rope-config.ts';

export interface Qwen2Config extends LlamaDecoderConfig {
  readonly family: 'qwen2';
}

/** Qwen 2 and 2.5 (Yang et al. 2024, arXiv 2412.15115): a Llama with biases on queries, keys and values. */
export const qwen2 = llamaDecoder<Qwen2Config>('qwen2', (json) => {
  requireLanguageModel(json, 'Qwen2ForCausalLM');
  requireOneOf(json, 'hidden_act', ['silu', undefined]);
  const dimensions = readDimensions(json, {
    keyValueHeads: 32,
    maxPositions: 32_768,
    tieWordEmbeddings: false,
  });
  return {
    family: 'qwen2',
    ...dimensions,
    // transformers hard-codes these biases for Qwen2, and the config has no field for them.
    queryKeyValueBias: true,
    outputBias: false,
    mlpBias: false,
    queryKeyNorm: false,
    windows: readQwenWindows(json, dimensions.layers),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
  };
});
