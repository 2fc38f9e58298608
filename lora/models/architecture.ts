import type { Graph, Tensor } from '../graph/graph.ts';
import type { CommonConfig, Json } from './config.ts';
import type { ModelConfig } from './families.ts';

/** A parameter of a model under its Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A linear module (`y = x Wᵀ + b`, W of shape [out, in]) under its Hugging Face module path. */
export interface LinearModule {
  readonly name: string;
  readonly in: number;
  readonly out: number;
  /** Whether it has a bias, `<name>.bias` [out]. */
  readonly bias: boolean;
  /** Whether its weight lies on disk as [in, out]: transformers' Conv1D, PEFT's fan_in_fan_out. */
  readonly conv1d: boolean;
}

/** What a forward pass reads, for B rows of T tokens. Made by `sequenceInputs`, fed by `sequenceFeeds`. */
export interface SequenceInputs {
  readonly batch: number;
  readonly length: number;
  /** [B·T] int64 token ids. */
  readonly ids: Tensor;
  /** [B, T] int64, counted from 0 at each start of a packed segment: attention reads from them what a token sees. */
  readonly positions: Tensor;
}

/**
 * Where a forward pass takes its parameters from. The architecture does not know whether a tensor is
 * frozen or trained, nor whether a linear module carries an adapter.
 */
export interface ParameterSource {
  /** The parameter `name`, shaped as it lies on disk; its shape comes from the architecture's own list. */
  tensor(name: string): Tensor;
  /** The weight of the linear module `module` as [out, in], without its bias and without an adapter. */
  weight(module: string): Tensor;
  /** Looks up row ids[n] of the embedding table `name`, a parameter, for every n: ids [N] int64 → [N, width]. */
  rows(name: string, ids: Tensor): Tensor;
  /** Applies the linear module `name`, its bias included, to x [N, in] → [N, out]. */
  linear(name: string, x: Tensor): Tensor;
}

/** A parameter source some of whose tensors are trained: graph inputs, by their feed name. */
export interface TrainableSource extends ParameterSource {
  readonly trainable: ReadonlyMap<string, Tensor>;
}

/** A model family: how its config.json reads, what its weights are called, and its forward pass. */
export interface Architecture<C extends CommonConfig = ModelConfig> {
  /** transformers' `model_type`. */
  readonly name: C['family'];
  /** Module path of the output head. */
  readonly head: string;
  /** The parameter that token ids look up; a tied output head is the same table. */
  readonly embedding: string;
  /** Factor on the rows that are looked up, where transformers' embedding module has one. Default: 1. */
  embeddingScale?(config: C): number;
  /**
   * Reads a config.json whose `model_type` is this family's, in the layout of transformers 4 or 5.
   * @throws SwarmError MODEL_CONFIG a field is missing or is not the number it has to be
   * @throws SwarmError MODEL_UNSUPPORTED a field asks for something this engine does not compute
   */
  parseConfig(json: Json): C;
  /** Every tensor that the weights must hold, in the order of the forward pass. */
  parameters(config: C): Parameter[];
  /** Every linear module, the output head last. */
  linearModules(config: C): LinearModule[];
  /** Module paths of the repeated blocks, in order, e.g. `model.layers.0`. */
  blocks(config: C): string[];
  /** Logits [B·T, vocabulary]. */
  forward(graph: Graph, config: C, inputs: SequenceInputs, source: ParameterSource): Tensor;
  /** The name in `parameters` of a tensor that some files call otherwise. Default: the same. */
  canonicalName?(name: string): string;
  /** Whether a tensor (by its canonical name) may lie in the weights without being used: a stored buffer, say. */
  isBuffer?(name: string): boolean;
}
