import type { Architecture, LinearModule, Parameter } from '../architecture.ts';
import type { Windows } from '../decoder-config.ts';
import { gatedMlpModules } from './gated-mlp.ts';
import { moduleParameters, outputHead } from './modules.ts';
import { type AttentionConfig, attentionModules } from './rotary-attention.ts';

/** Settings of a decoder with rotary attention and gated feed-forward blocks. */
export interface DecoderConfig extends AttentionConfig {
  readonly mlpBias: boolean;
  /** Whether each head of queries and keys is normalised before the rotation. */
  readonly queryKeyNorm: boolean;
  readonly normEpsilon: number;
  readonly windows: Windows;
}

/** Names of a block's norms, in order. */
export interface BlockNorms {
  readonly beforeAttention: readonly string[];
  readonly beforeMlp: readonly string[];
  readonly afterMlp: readonly string[];
}

/**
 * Returns the modules and parameters of a decoder with this config, under transformers' names. The family adds the
 * forward pass.
 */
export function decoderModules<C extends DecoderConfig>(
  norms: BlockNorms,
): Required<
  Pick<Architecture<C>, 'head' | 'embedding' | 'blocks' | 'parameters' | 'linearModules' | 'isBuffer'>
> {
  const embedding = 'model.embed_tokens.weight';
  const blocks = (config: C) => Array.from({ length: config.layers }, (_, layer) => `model.layers.${layer}`);
  return {
    head: 'lm_head',
    embedding,
    blocks,

    parameters(config) {
      const list: Parameter[] = [{ name: embedding, shape: [config.vocabularySize, config.hiddenSize] }];
      const norm = (name: string, width = config.hiddenSize) =>
        list.push({ name: `${name}.weight`, shape: [width] });
      for (const block of blocks(config)) {
        for (const name of norms.beforeAttention) norm(`${block}.${name}`);
        list.push(...attentionModules(config, `${block}.self_attn`).flatMap(moduleParameters));
        if (config.queryKeyNorm)
          for (const name of ['q_norm', 'k_norm']) norm(`${block}.self_attn.${name}`, config.headDim);
        for (const name of norms.beforeMlp) norm(`${block}.${name}`);
        list.push(...mlpModules(config, block).flatMap(moduleParameters));
        for (const name of norms.afterMlp) norm(`${block}.${name}`);
      }
      norm('model.norm');
      if (!config.tieWordEmbeddings) list.push(...moduleParameters(outputHead(config)));
      return list;
    },

    linearModules(config) {
      const inBlocks = blocks(config).flatMap((block) => [
        ...attentionModules(config, `${block}.self_attn`),
        ...mlpModules(config, block),
      ]);
      return [...inBlocks, outputHead(config)];
    },

    // Old files also contain the frequencies of the rotary embedding, which we compute ourselves.
    isBuffer: (name) => name.endsWith('.rotary_emb.inv_freq'),
  };
}

function mlpModules(config: DecoderConfig, block: string): LinearModule[] {
  const { hiddenSize, intermediateSize, mlpBias: bias } = config;
  return gatedMlpModules(`${block}.mlp`, { hiddenSize, intermediateSize, bias });
}
