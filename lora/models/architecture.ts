import type { Graph, Tensor } from '../graph/graph.ts';
import type { CommonConfig, Json } from './config.ts';

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
  /** Whether the module has a bias, the parameter `<name>.bias` of shape [out]. */
  readonly bias: boolean;
  /** Whether the weight is stored as [in, out], as in transformers' Conv1D. PEFT calls this `fan_in_fan_out`. */
  readonly conv1d: boolean;
}

/** Settings of one layer's attention. */
export interface LayerAttention {
  /** Number of tokens that a token attends to, including itself; null if it attends to all earlier tokens. */
  readonly window: number | null;
  /** Factor that attention scores are multiplied by. */
  readonly scale: number;
}

/**
 * Inputs of a forward pass over B rows of T tokens. `sequenceInputs` declares them for whole sequences, and
 * `cachedInputs` for the newest tokens of sequences whose earlier keys and values are in a cache.
 */
export interface SequenceInputs {
  readonly batch: number;
  readonly length: number;
  /** Number of different positions: every position is below this number. For whole sequences, it equals `length`. */
  readonly positionCount: number;
  /** Token ids, [B·T] int64. */
  readonly ids: Tensor;
  /**
   * Positions, [B, T] int64. They restart at 0 with every segment, so attention can tell from the positions which
   * tokens belong to the same segment.
   */
  readonly positions: Tensor;
  /**
   * Adds causal attention to the graph: q [B, H, T, D], k and v [B, KV, T, D] → [B·T, H·D], with H heads, KV key-value
   * heads and head size D. Forward passes call this method once for each layer, in order.
   */
  attend(q: Tensor, k: Tensor, v: Tensor, layer: LayerAttention): Tensor;
}

/**
 * Gives a forward pass its parameters, so that an architecture need not know which tensors are trained and which linear
 * modules have LoRA matrices.
 */
export interface ParameterSource {
  /** Returns the parameter `name` in its stored shape (see `Architecture.parameters`). */
  tensor(name: string): Tensor;
  /** Returns the weight of the linear module `module` as [out, in], without bias and adapter. */
  weight(module: string): Tensor;
  /** Looks up rows of the embedding table `name` (a parameter): ids [N] int64 → [N, width]. */
  rows(name: string, ids: Tensor): Tensor;
  /** Applies the linear module `name` with its bias and adapter: x [N, in] → [N, out]. */
  linear(name: string, x: Tensor): Tensor;
}

/**
 * A parameter source with trained tensors. They are inputs of the graph, listed by the name under which they are fed.
 */
export interface TrainableSource extends ParameterSource {
  readonly trainable: ReadonlyMap<string, Tensor>;
}

/** A model family: its config reader, the names and shapes of its weights, and its forward pass. */
export interface Architecture<C extends CommonConfig = CommonConfig> {
  /** transformers' `model_type`. */
  readonly name: C['family'];
  /** Module path of the output head. */
  readonly head: string;
  /** Parameter with the embedding table; a tied output head uses the same parameter. */
  readonly embedding: string;
  /** Factor by which the embedding module of transformers multiplies its rows. Default: 1. */
  embeddingScale?(config: C): number;
  /**
   * Reads a config.json whose `model_type` is this family's, in the layout of transformers 4 or 5.
   * @throws SwarmError MODEL_CONFIG if a field is missing or has a wrong type or range
   * @throws SwarmError MODEL_UNSUPPORTED if a field asks for a feature that is not implemented
   */
  parseConfig(json: Json): C;
  /** Lists every tensor that the weights must hold, in the order of the forward pass. */
  parameters(config: C): Parameter[];
  /** Lists every linear module, the output head last. */
  linearModules(config: C): LinearModule[];
  /** Lists the module paths of the repeated blocks in order, e.g. `model.layers.0`. */
  blocks(config: C): string[];
  /** Adds the forward pass to `graph`; returns logits [B·T, vocabulary]. */
  forward(graph: Graph, config: C, inputs: SequenceInputs, source: ParameterSource): Tensor;
  /** Maps a tensor's name in a file to its name in `parameters`. Default: the same name. */
  canonicalName?(name: string): string;
  /** Returns whether the tensor with this canonical name is a stored buffer that the forward pass does not use. */
  isBuffer?(name: string): boolean;
}
