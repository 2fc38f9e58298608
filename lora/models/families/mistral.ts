import { type LlamaDecoderConfig, llamaDecoder } from '../blocks/llama-decoder.ts';
import { readPositive, requireLanguageModel, requireOneOf, unsupported } from '../config.ts';
import { layerWindows, readDimensions, readWindow } from '../decoder-config.ts';
import { parseRope } from '../rope-config.ts';

export interface MistralConfig extends LlamaDecoderConfig {
  readonly family: 'mistral';
}

/** Mistral (Jiang et al. 2023, arXiv 2310.06825): a Llama in which every layer has a window of `sliding_window` tokens, or none. */
export const mistral = llamaDecoder<MistralConfig>('mistral', (json) => {
  requireLanguageModel(json, 'MistralForCausalLM');
  requireOneOf(json, 'hidden_act', ['silu', undefined]);
  const dimensions = readDimensions(json, {
    keyValueHeads: 8,
    maxPositions: 131_072,
    tieWordEmbeddings: false,
  });
  const window = readWindow(json, 4096);
  const windows = layerWindows(json, dimensions.layers, window, () => window !== null);
  // transformers ignores layer_types in Mistral models, so a config with different types was made for another program.
  if (windows.some((one) => one !== window)) throw unsupported('layer_types', json.layer_types, [null]);
  return {
    family: 'mistral',
    ...dimensions,
    queryKeyValueBias: false,
    outputBias: false,
    mlpBias: false,
    queryKeyNorm: false,
    windows,
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    rope: parseRope(json),
  };
});
