import type { Tensor } from '../../graph/graph.ts';
import { add, geluTanh, rmsNorm, scale } from '../../graph/ops.ts';
import type { Architecture } from '../architecture.ts';
import { type DecoderConfig, decoderModules } from '../blocks/decoder-modules.ts';
import { gatedMlp } from '../blocks/gated-mlp.ts';
import { checkLength } from '../blocks/modules.ts';
import { rotaryAttention, rotaryConstants } from '../blocks/rotary-attention.ts';
import {
  isObject,
  type Json,
  readCount,
  readFlag,
  readPositive,
  requireLanguageModel,
  requireOneOf,
  unsupported,
} from '../config.ts';
import { layerWindows, readDimensions, readWindow } from '../decoder-config.ts';
import { parseRopeFields, type RopeConfig, ropeFields } from '../rope-config.ts';

export interface Gemma3Config extends DecoderConfig {
  readonly family: 'gemma3_text';
  /**
   * Settings of the rotary positions: `full` for layers with full attention, `sliding` for layers with an attention
   * window.
   */
  readonly rope: { readonly full: RopeConfig; readonly sliding: RopeConfig };
  /** Attention scores are divided by the square root of this number (`query_pre_attn_scalar`). */
  readonly queryScalar: number;
}

const modules = decoderModules<Gemma3Config>({
  beforeAttention: ['input_layernorm'],
  beforeMlp: ['post_attention_layernorm', 'pre_feedforward_layernorm'],
  afterMlp: ['post_feedforward_layernorm'],
});

/**
 * The Gemma 3 text model (Gemma Team 2025, arXiv 2503.19786). Each sublayer has one norm before it and one after it.
 * The weights of norms are stored as offsets from 1. Layers with and without an attention window have different rotary
 * bases. Embeddings are multiplied by √hidden.
 */
export const gemma3Text: Architecture<Gemma3Config> = {
  name: 'gemma3_text',
  ...modules,

  parseConfig(json) {
    requireLanguageModel(json, 'Gemma3ForCausalLM');
    requireOneOf(json, 'hidden_activation', ['gelu_pytorch_tanh', undefined]);
    requireOneOf(json, 'attn_logit_softcapping', [null, undefined]);
    requireOneOf(json, 'final_logit_softcapping', [null, undefined]);
    requireOneOf(json, 'use_bidirectional_attention', [false, null, undefined]);
    const dimensions = readDimensions(json, {
      keyValueHeads: 4,
      headDim: 256,
      maxPositions: 131_072,
      tieWordEmbeddings: true,
    });
    const attentionBias = readFlag(json, 'attention_bias', false);
    const period = readCount(json, 'sliding_window_pattern', 6);
    const isSliding = (layer: number) => (layer + 1) % period !== 0;
    return {
      family: 'gemma3_text',
      ...dimensions,
      queryKeyValueBias: attentionBias,
      outputBias: attentionBias,
      mlpBias: false,
      queryKeyNorm: true,
      windows: layerWindows(json, dimensions.layers, readWindow(json, 4096), isSliding),
      normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
      rope: readRope(json),
      queryScalar: readPositive(json, 'query_pre_attn_scalar', 256),
    };
  },

  embeddingScale,

  forward(graph, config, inputs, source) {
    const { positionCount, ids } = inputs;
    checkLength(config, positionCount);
    const { full, sliding } = config.rope;
    const rotary = {
      full: rotaryConstants(graph, full, config.headDim, positionCount),
      sliding: rotaryConstants(graph, sliding, config.headDim, positionCount),
    };
    const one = graph.constant([], Float32Array.of(1));
    const norm = (y: Tensor, module: string) =>
      rmsNorm(y, add(source.tensor(`${module}.weight`), one), config.normEpsilon);

    let x = scale(source.rows(modules.embedding, ids), embeddingScale(config));
    for (const [layer, block] of modules.blocks(config).entries()) {
      const window = config.windows[layer]!;
      const context = {
        inputs,
        window,
        rotary: window === null ? rotary.full : rotary.sliding,
        scale: config.queryScalar ** -0.5,
        norm,
      };
      const before = norm(x, `${block}.input_layernorm`);
      const attended = rotaryAttention(source, config, `${block}.self_attn`, before, context);
      x = add(x, norm(attended, `${block}.post_attention_layernorm`));
      const y = gatedMlp(source, `${block}.mlp`, norm(x, `${block}.pre_feedforward_layernorm`), geluTanh);
      x = add(x, norm(y, `${block}.post_feedforward_layernorm`));
    }
    return source.linear(modules.head, norm(x, 'model.norm'));
  },
};

/**
 * Reads the settings of the rotary positions. A config of transformers 4 has `rope_theta` and `rope_scaling`
 * for full attention, and `rope_local_base_freq` for sliding attention. A config of transformers 5 has
 * `rope_parameters`, with one object for each of the two kinds of attention.
 */
function readRope(json: Json): Gemma3Config['rope'] {
  const fields = ropeFields(json);
  const nested = isObject(json.rope_parameters) ? json.rope_parameters : {};
  const types = Object.keys(nested).filter((key) => key !== 'full_attention' && key !== 'sliding_attention');
  if (types.length > 0) throw unsupported('rope_parameters', types, ['full_attention', 'sliding_attention']);
  const of = (type: string) => (isObject(nested[type]) ? nested[type] : {});
  const stretched = fields === json.rope_scaling ? fields : {};
  return {
    full: parseRopeFields(
      json,
      { ...of('full_attention'), ...stretched },
      readPositive(json, 'rope_theta', 1_000_000),
    ),
    sliding: parseRopeFields(
      json,
      of('sliding_attention'),
      readPositive(json, 'rope_local_base_freq', 10_000),
    ),
  };
}

/** Returns √hidden. transformers rounds this factor to the element type of its computation; here, that is float32. */
function embeddingScale({ hiddenSize }: Gemma3Config): number {
  return Math.sqrt(hiddenSize);
}
