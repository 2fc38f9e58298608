import type { Tensor } from '../../graph/graph.ts';
import { add, geluTanh, layerNorm, reshape, slice } from '../../graph/ops.ts';
import type { Architecture, LinearModule, Parameter } from '../architecture.ts';
import { splitHeads } from '../blocks/heads.ts';
import { checkLength, moduleParameters, outputHead } from '../blocks/modules.ts';
import {
  type CommonConfig,
  invalid,
  MAX_LAYERS,
  readCount,
  readFlag,
  readPositive,
  requireLanguageModel,
  requireOneOf,
} from '../config.ts';

export interface Gpt2Config extends CommonConfig {
  readonly family: 'gpt2';
  readonly normEpsilon: number;
  /** Whether the attention scores of layer l (from 0) are also divided by l + 1. */
  readonly scaleByLayer: boolean;
}

const HEAD = 'lm_head';
const EMBEDDING = 'transformer.wte.weight';

const blocks = (config: Gpt2Config) =>
  Array.from({ length: config.layers }, (_, layer) => `transformer.h.${layer}`);

/**
 * GPT-2 (Radford et al. 2019): pre-norm blocks with LayerNorm, learned positions, one projection for queries, keys and
 * values, GELU, and biases in all modules. Its dropout is not applied, because the base runs in evaluation mode.
 */
export const gpt2: Architecture<Gpt2Config> = {
  name: 'gpt2',
  head: HEAD,
  embedding: EMBEDDING,
  blocks,

  parseConfig(json) {
    requireLanguageModel(json, 'GPT2LMHeadModel');
    requireOneOf(json, 'activation_function', ['gelu_new', 'gelu_pytorch_tanh', undefined]);
    requireOneOf(json, 'scale_attn_weights', [true, undefined]);
    requireOneOf(json, 'add_cross_attention', [false, undefined]);
    const hiddenSize = readCount(json, 'n_embd');
    const heads = readCount(json, 'n_head');
    if (hiddenSize % heads !== 0) throw invalid('n_embd', `a multiple of n_head (${heads})`, hiddenSize);
    return {
      family: 'gpt2',
      vocabularySize: readCount(json, 'vocab_size'),
      hiddenSize,
      intermediateSize: readCount(json, 'n_inner', 4 * hiddenSize),
      layers: readCount(json, 'n_layer', undefined, MAX_LAYERS),
      heads,
      keyValueHeads: heads,
      headDim: hiddenSize / heads,
      maxPositions: readCount(json, 'n_positions', 1024),
      tieWordEmbeddings: readFlag(json, 'tie_word_embeddings', true),
      normEpsilon: readPositive(json, 'layer_norm_epsilon', 1e-5),
      scaleByLayer: readFlag(json, 'scale_attn_by_inverse_layer_idx', false),
    };
  },

  parameters(config) {
    const { hiddenSize: hidden } = config;
    const norm = (name: string): Parameter[] => [
      { name: `${name}.weight`, shape: [hidden] },
      { name: `${name}.bias`, shape: [hidden] },
    ];
    const list: Parameter[] = [
      { name: EMBEDDING, shape: [config.vocabularySize, hidden] },
      { name: 'transformer.wpe.weight', shape: [config.maxPositions, hidden] },
    ];
    for (const block of blocks(config)) {
      list.push(...norm(`${block}.ln_1`), ...attentionModules(config, block).flatMap(moduleParameters));
      list.push(...norm(`${block}.ln_2`), ...mlpModules(config, block).flatMap(moduleParameters));
    }
    list.push(...norm('transformer.ln_f'));
    if (!config.tieWordEmbeddings) list.push(...moduleParameters(outputHead(config)));
    return list;
  },

  linearModules(config) {
    const inBlocks = blocks(config).flatMap((block) => [
      ...attentionModules(config, block),
      ...mlpModules(config, block),
    ]);
    return [...inBlocks, outputHead(config)];
  },

  forward(_graph, config, { batch, length, positionCount, ids, positions, attend }, source) {
    checkLength(config, positionCount);
    const { hiddenSize: hidden, heads, headDim } = config;
    const norm = (y: Tensor, module: string) =>
      layerNorm(y, source.tensor(`${module}.weight`), source.tensor(`${module}.bias`), config.normEpsilon);

    const places = source.rows('transformer.wpe.weight', reshape(positions, [batch * length]));
    let x = add(source.rows(EMBEDDING, ids), places);
    for (const [layer, block] of blocks(config).entries()) {
      const joint = source.linear(`${block}.attn.c_attn`, norm(x, `${block}.ln_1`));
      const [q, k, v] = [0, 1, 2].map((part) =>
        splitHeads(slice(joint, 1, part * hidden, (part + 1) * hidden), batch, heads),
      );
      const scale = 1 / Math.sqrt(headDim) / (config.scaleByLayer ? layer + 1 : 1);
      const attended = attend(q!, k!, v!, { window: null, scale });
      x = add(x, source.linear(`${block}.attn.c_proj`, attended));
      const inner = geluTanh(source.linear(`${block}.mlp.c_fc`, norm(x, `${block}.ln_2`)));
      x = add(x, source.linear(`${block}.mlp.c_proj`, inner));
    }
    return source.linear(HEAD, norm(x, 'transformer.ln_f'));
  },

  /**
   * Adds the prefix `transformer.`, which is missing in files of the model without its head, such as OpenAI's
   * own.
   */
  canonicalName: (name) => (/^(transformer|lm_head)\./.test(name) ? name : `transformer.${name}`),

  /** Recognises the causal masks, which old files contain as tensors. */
  isBuffer: (name) => /\.attn\.(masked_)?bias$/.test(name),
};

function attentionModules({ hiddenSize: hidden }: Gpt2Config, block: string): LinearModule[] {
  return [
    { name: `${block}.attn.c_attn`, in: hidden, out: 3 * hidden, bias: true, conv1d: true },
    { name: `${block}.attn.c_proj`, in: hidden, out: hidden, bias: true, conv1d: true },
  ];
}

function mlpModules(
  { hiddenSize: hidden, intermediateSize: inner }: Gpt2Config,
  block: string,
): LinearModule[] {
  return [
    { name: `${block}.mlp.c_fc`, in: hidden, out: inner, bias: true, conv1d: true },
    { name: `${block}.mlp.c_proj`, in: inner, out: hidden, bias: true, conv1d: true },
  ];
}
