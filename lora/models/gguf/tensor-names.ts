import type { LinearModule } from '../architecture.ts';
import type { ModelConfig } from '../families.ts';
import type { ModelShape } from '../targets.ts';

/**
 * The difference between a tensor in a GGUF file and the same tensor in a Hugging Face file:
 * - permuted: In the architecture "llama", llama.cpp rotates adjacent rows (2i, 2i + 1) of queries and keys.
 *   transformers rotates rows i and i + D/2 of a head of D rows. The file therefore has the rows of each
 *   head in another order.
 * - transposed: transformers stores a Conv1D weight as [in, out], and GGUF as [out, in].
 * - shifted: transformers stores the weight of a Gemma norm as an offset from 1, and GGUF stores the whole weight.
 */
export type TensorChange =
  | { readonly kind: 'same' | 'transposed' | 'shifted' }
  | { readonly kind: 'permuted'; readonly headDim: number };

export interface TensorPlace {
  /** Name in a GGUF file. */
  readonly name: string;
  readonly change: TensorChange;
}

/** Names of modules outside the blocks. */
const OUTER: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  'transformer.wte': 'token_embd',
  'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm',
};

/** The name in GGUF files of each module of a block. */
const INNER: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  ln_1: 'attn_norm',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  ln_2: 'ffn_norm',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
};

/** Names that are different in Gemma 3, whose blocks have four norms. */
const GEMMA: Readonly<Record<string, string>> = {
  post_attention_layernorm: 'post_attention_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
};

/** Returns the name of a module in GGUF files, e.g. `blk.3.attn_q` for `model.layers.3.self_attn.q_proj`. */
export function ggufModule(module: string, family: ModelConfig['family']): string {
  const [, layer, inner] = /^(?:model\.layers|transformer\.h)\.(\d+)\.(.+)$/.exec(module) ?? [];
  if (layer === undefined) return OUTER[module]!;
  const names = family === 'gemma3_text' ? { ...INNER, ...GEMMA } : INNER;
  return `blk.${layer}.${names[inner!]!}`;
}

/** Returns the place in a GGUF file of each parameter, by its Hugging Face name. */
export function tensorPlaces({ architecture, config }: ModelShape): Map<string, TensorPlace> {
  const linear = new Map(architecture.linearModules(config).map((module) => [module.name, module]));
  const places = new Map<string, TensorPlace>();
  for (const { name } of architecture.parameters(config)) {
    const dot = name.lastIndexOf('.');
    const [module, leaf] = [name.slice(0, dot), name.slice(dot + 1)];
    const gguf = ggufModule(module, config.family);
    const change = changeOf(gguf, leaf, config, linear.get(module));
    places.set(name, { name: `${gguf}.${leaf}`, change });
  }
  return places;
}

function changeOf(
  gguf: string,
  leaf: string,
  { family, headDim }: ModelConfig,
  module: LinearModule | undefined,
): TensorChange {
  if (isPermuted(gguf, family)) return { kind: 'permuted', headDim };
  if (family === 'gemma3_text' && gguf.endsWith('_norm')) return { kind: 'shifted' };
  return { kind: module?.conv1d && leaf === 'weight' ? 'transposed' : 'same' };
}

/**
 * Returns whether the order of the module's output rows in GGUF files differs from the order in Hugging
 * Face's files.
 */
export function isPermuted(gguf: string, family: ModelConfig['family']): boolean {
  return (family === 'llama' || family === 'mistral') && /\.attn_[qk]$/.test(gguf);
}
