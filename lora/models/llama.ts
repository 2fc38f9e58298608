import { SwarmError } from '../../protocol/errors.ts';
import { add, gatherRows, multiply, rmsNorm, silu } from '../graph/ops.ts';
import type { Architecture, LinearModule, Parameter } from './architecture.ts';
import { attention } from './attention.ts';
import type { ModelConfig } from './config.ts';
import { rotaryTables } from './rope.ts';

/**
 * Llama (Touvron et al. 2023, Grattafiori et al. 2024): pre-norm blocks with RMSNorm, rotary positions,
 * grouped-query attention and SwiGLU, tied or untied output head. Names are those of transformers'
 * LlamaForCausalLM.
 */
export const llama: Architecture = {
  name: 'llama',

  parameters(config) {
    const hidden = config.hiddenSize;
    const list: Parameter[] = [{ name: 'model.embed_tokens.weight', shape: [config.vocabularySize, hidden] }];
    for (let layer = 0; layer < config.layers; layer++) {
      const block = `model.layers.${layer}`;
      const { attention, mlp } = blockLinears(config, layer);
      list.push({ name: `${block}.input_layernorm.weight`, shape: [hidden] });
      list.push(...attention.map(weight));
      list.push({ name: `${block}.post_attention_layernorm.weight`, shape: [hidden] });
      list.push(...mlp.map(weight));
    }
    list.push({ name: 'model.norm.weight', shape: [hidden] });
    if (!config.tieWordEmbeddings) list.push(weight(head(config)));
    return list;
  },

  linearModules(config) {
    const list: LinearModule[] = [];
    for (let layer = 0; layer < config.layers; layer++) {
      const { attention, mlp } = blockLinears(config, layer);
      list.push(...attention, ...mlp);
    }
    list.push(head(config));
    return list;
  },

  forward(graph, config, inputs, source) {
    const { batch, length, ids, positions, mask } = inputs;
    if (length > config.maxPositions)
      throw new SwarmError(
        'MODEL_SEQUENCE_TOO_LONG',
        `rows of ${length} tokens, but the model knows ${config.maxPositions} positions; use a shorter sequence length`,
        { length, maxPositions: config.maxPositions },
      );
    const { cos, sin } = rotaryTables(config.rope, config.headDim, length);
    const table = [length, config.headDim / 2];
    const context = { positions, mask, cos: graph.constant(table, cos), sin: graph.constant(table, sin) };
    const shape = {
      batch,
      length,
      heads: config.heads,
      keyValueHeads: config.keyValueHeads,
      headDim: config.headDim,
    };
    const norm = (x: typeof ids, name: string) =>
      rmsNorm(x, source.tensor(`${name}.weight`), config.normEpsilon);

    let x = gatherRows(source.tensor('model.embed_tokens.weight'), ids);
    for (let layer = 0; layer < config.layers; layer++) {
      const block = `model.layers.${layer}`;
      const project = (name: string, y: typeof x) => source.linear(`${block}.${name}`, y);

      const a = norm(x, `${block}.input_layernorm`);
      const mixed = attention(
        project('self_attn.q_proj', a),
        project('self_attn.k_proj', a),
        project('self_attn.v_proj', a),
        shape,
        context,
      );
      x = add(x, project('self_attn.o_proj', mixed));

      const m = norm(x, `${block}.post_attention_layernorm`);
      const gated = multiply(silu(project('mlp.gate_proj', m)), project('mlp.up_proj', m));
      x = add(x, project('mlp.down_proj', gated));
    }
    return source.linear('lm_head', norm(x, 'model.norm'));
  },
};

function blockLinears(config: ModelConfig, layer: number): Record<'attention' | 'mlp', LinearModule[]> {
  const { hiddenSize: hidden, intermediateSize: inner } = config;
  const queries = config.heads * config.headDim;
  const keys = config.keyValueHeads * config.headDim;
  const path = `model.layers.${layer}`;
  return {
    attention: [
      { name: `${path}.self_attn.q_proj`, in: hidden, out: queries },
      { name: `${path}.self_attn.k_proj`, in: hidden, out: keys },
      { name: `${path}.self_attn.v_proj`, in: hidden, out: keys },
      { name: `${path}.self_attn.o_proj`, in: queries, out: hidden },
    ],
    mlp: [
      { name: `${path}.mlp.gate_proj`, in: hidden, out: inner },
      { name: `${path}.mlp.up_proj`, in: hidden, out: inner },
      { name: `${path}.mlp.down_proj`, in: inner, out: hidden },
    ],
  };
}

function head(config: ModelConfig): LinearModule {
  return { name: 'lm_head', in: config.hiddenSize, out: config.vocabularySize };
}

function weight(module: LinearModule): Parameter {
  return { name: `${module.name}.weight`, shape: [module.out, module.in] };
}
