import type { Tensor } from '../../graph/graph.ts';
import { add, rmsNorm, silu } from '../../graph/ops.ts';
import type { Architecture } from '../architecture.ts';
import type { Json } from '../config.ts';
import type { RopeConfig } from '../rope-config.ts';
import { type DecoderConfig, decoderModules } from './decoder-modules.ts';
import { gatedMlp } from './gated-mlp.ts';
import { checkLength } from './modules.ts';
import { rotaryAttention, rotaryConstants } from './rotary-attention.ts';

export interface LlamaDecoderConfig extends DecoderConfig {
  readonly rope: RopeConfig;
}

/**
 * Makes an architecture like Llama's (Touvron et al. 2023, arXiv 2302.13971): pre-norm blocks with RMSNorm, rotary
 * positions, grouped-query attention and SwiGLU, and a tied or untied output head. Such families differ only in their
 * configs.
 */
export function llamaDecoder<C extends LlamaDecoderConfig>(
  name: C['family'],
  parseConfig: (json: Json) => C,
): Architecture<C> {
  const modules = decoderModules<C>({
    beforeAttention: ['input_layernorm'],
    beforeMlp: ['post_attention_layernorm'],
    afterMlp: [],
  });
  return {
    name,
    parseConfig,
    ...modules,

    forward(graph, config, inputs, source) {
      const { positionCount, ids } = inputs;
      checkLength(config, positionCount);
      const rotary = rotaryConstants(graph, config.rope, config.headDim, positionCount);
      const scale = 1 / Math.sqrt(config.headDim);
      const norm = (y: Tensor, module: string) =>
        rmsNorm(y, source.tensor(`${module}.weight`), config.normEpsilon);

      let x = source.rows(modules.embedding, ids);
      for (const [layer, block] of modules.blocks(config).entries()) {
        const window = config.windows[layer]!;
        const context = { inputs, window, rotary, scale, norm: config.queryKeyNorm ? norm : null };
        const attended = norm(x, `${block}.input_layernorm`);
        x = add(x, rotaryAttention(source, config, `${block}.self_attn`, attended, context));
        x = add(x, gatedMlp(source, `${block}.mlp`, norm(x, `${block}.post_attention_layernorm`), silu));
      }
      return source.linear(modules.head, norm(x, 'model.norm'));
    },
  };
}
