import type { Graph, Tensor } from '../graph/graph.ts';
import type { ModelConfig } from './config.ts';

/** A parameter of a model under its Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A linear module (`y = x Wᵀ`, W of shape [out, in]) under its Hugging Face module path. */
export interface LinearModule {
  readonly name: string;
  readonly in: number;
  readonly out: number;
}

/** What a forward pass reads, for B rows of T tokens. Made by `sequenceInputs`, fed by `sequenceFeeds`. */
export interface SequenceInputs {
  readonly batch: number;
  readonly length: number;
  /** [B·T] int64 token ids. */
  readonly ids: Tensor;
  /** [B, T] int64, counted from 0 at each start of a packed segment. */
  readonly positions: Tensor;
  /** [B, 1, 1, T, T] float32, added to the attention scores. */
  readonly mask: Tensor;
}

/**
 * Where a forward pass takes its parameters from. The architecture does not know whether a tensor is
 * frozen or trained, nor whether a linear module carries an adapter.
 */
export interface ParameterSource {
  /** The parameter `name`; its shape comes from the architecture's own list. */
  tensor(name: string): Tensor;
  /** Applies the linear module `name` to x [N, in] → [N, out]. */
  linear(name: string, x: Tensor): Tensor;
}

/** A parameter source some of whose tensors are trained: graph inputs, by their feed name. */
export interface TrainableSource extends ParameterSource {
  readonly trainable: ReadonlyMap<string, Tensor>;
}

export interface Architecture {
  readonly name: string;
  /** Every tensor that the weights must hold, in the order of the forward pass. */
  parameters(config: ModelConfig): Parameter[];
  /** Every linear module, the output head (`lm_head`) last. */
  linearModules(config: ModelConfig): LinearModule[];
  /** Logits [B·T, vocabulary]. */
  forward(graph: Graph, config: ModelConfig, inputs: SequenceInputs, source: ParameterSource): Tensor;
}
