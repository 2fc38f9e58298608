import type { Tensor } from '../../graph/graph.ts';
import { add, causalMask, gatherRows, rmsNorm, silu } from '../../graph/ops.ts';
import type { Architecture, Parameter } from '../architecture.ts';
import type { Json } from '../config.ts';
import type { RopeConfig } from '../rope-config.ts';
import { gatedMlp, gatedMlpModules } from './gated-mlp.ts';
import { checkLength, moduleParameters, outputHead } from './modules.ts';
import {
  type AttentionConfig,
  attentionModules,
  rotaryAttention,
  rotaryConstants,
} from './rotary-attention.ts';

/** What the Llama-like families differ in. */
export interface DecoderConfig extends AttentionConfig {
  readonly mlpBias: boolean;
  readonly normEpsilon: number;
  readonly rope: RopeConfig;
}

/**
 * The decoder that Llama made common (Touvron et al. 2023, arXiv 2302.13971): pre-norm blocks with RMSNorm, rotary
 * positions, grouped-query attention and SwiGLU, tied or untied output head. Names are those of transformers.
 */
export function decoder<C extends DecoderConfig>(
  name: C['family'],
  parseConfig: (json: Json) => C,
): Architecture<C> {
  const head = 'lm_head';
  const embedding = 'model.embed_tokens.weight';
  const blocks = (config: C) => Array.from({ length: config.layers }, (_, layer) => `model.layers.${layer}`);
  return {
    name,
    head,
    embedding,
    parseConfig,
    blocks,

    parameters(config) {
      const norm = (path: string): Parameter => ({ name: `${path}.weight`, shape: [config.hiddenSize] });
      const list: Parameter[] = [{ name: embedding, shape: [config.vocabularySize, config.hiddenSize] }];
      for (const block of blocks(config)) {
        list.push(norm(`${block}.input_layernorm`));
        list.push(...attentionModules(config, `${block}.self_attn`).flatMap(moduleParameters));
        list.push(norm(`${block}.post_attention_layernorm`));
        list.push(...mlpModules(config, block).flatMap(moduleParameters));
      }
      list.push(norm('model.norm'));
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

    forward(graph, config, { length, ids, positions }, source) {
      checkLength(config, length);
      const rotary = rotaryConstants(graph, config.rope, config.headDim, length);
      const mask = causalMask(positions);
      const scale = 1 / Math.sqrt(config.headDim);
      const norm = (y: Tensor, module: string) =>
        rmsNorm(y, source.tensor(`${module}.weight`), config.normEpsilon);

      let x = gatherRows(source.tensor(embedding), ids);
      for (const block of blocks(config)) {
        const context = { positions, mask, rotary, scale };
        const attended = norm(x, `${block}.input_layernorm`);
        x = add(x, rotaryAttention(source, config, `${block}.self_attn`, attended, context));
        x = add(x, gatedMlp(source, `${block}.mlp`, norm(x, `${block}.post_attention_layernorm`), silu));
      }
      return source.linear(head, norm(x, 'model.norm'));
    },
  };
}

function mlpModules(config: DecoderConfig, block: string) {
  const { hiddenSize, intermediateSize, mlpBias: bias } = config;
  return gatedMlpModules(`${block}.mlp`, { hiddenSize, intermediateSize, bias });
}
