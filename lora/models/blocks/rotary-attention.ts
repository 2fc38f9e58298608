import type { Graph, Tensor } from '../../graph/graph.ts';
import { rotaryEmbedding } from '../../graph/ops.ts';
import type { LayerAttention, LinearModule, ParameterSource, SequenceInputs } from '../architecture.ts';
import type { CommonConfig } from '../config.ts';
import { rotaryTables } from '../rope.ts';
import type { RopeConfig } from '../rope-config.ts';
import { splitHeads } from './heads.ts';

export interface AttentionConfig extends CommonConfig {
  /** Whether the query, key and value projections have biases. */
  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
}

/** Rotary tables for P positions as constants of a graph, each [P, D/2]. */
export interface RotaryConstants {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** Inputs of a layer's attention besides the hidden states. */
export interface AttentionContext extends LayerAttention {
  readonly inputs: SequenceInputs;
  readonly rotary: RotaryConstants;
  /** Applies the norm at a module path to the heads of queries or keys, [B, heads, T, D]; null if there is no norm. */
  readonly norm: ((heads: Tensor, module: string) => Tensor) | null;
}

/** Adds the rotary tables for `positions` positions to a graph. */
export function rotaryConstants(
  graph: Graph,
  rope: RopeConfig,
  headDim: number,
  positions: number,
): RotaryConstants {
  const { cos, sin } = rotaryTables(rope, headDim, positions);
  const shape = [positions, headDim / 2];
  return { cos: graph.constant(shape, cos), sin: graph.constant(shape, sin) };
}

/** Lists the projections of the attention at `path`, e.g. `model.layers.0.self_attn`. */
export function attentionModules(config: AttentionConfig, path: string): LinearModule[] {
  const { hiddenSize, headDim, queryKeyValueBias: bias, outputBias } = config;
  const queries = config.heads * headDim;
  const keys = config.keyValueHeads * headDim;
  return [
    { name: `${path}.q_proj`, in: hiddenSize, out: queries, bias, conv1d: false },
    { name: `${path}.k_proj`, in: hiddenSize, out: keys, bias, conv1d: false },
    { name: `${path}.v_proj`, in: hiddenSize, out: keys, bias, conv1d: false },
    { name: `${path}.o_proj`, in: queries, out: hiddenSize, bias: outputBias, conv1d: false },
  ];
}

/** Applies grouped-query attention with rotary positions, including its projections: x [B·T, hidden] → [B·T, hidden]. */
export function rotaryAttention(
  source: ParameterSource,
  config: AttentionConfig,
  path: string,
  x: Tensor,
  context: AttentionContext,
): Tensor {
  const { window, rotary, scale, norm } = context;
  const { batch, positions, attend } = context.inputs;
  const project = (name: string, heads: number) =>
    splitHeads(source.linear(`${path}.${name}`, x), batch, heads);
  const turn = (heads: Tensor, name: string) => {
    const normal = norm === null ? heads : norm(heads, `${path}.${name}`);
    return rotaryEmbedding(normal, positions, rotary.cos, rotary.sin);
  };
  const q = turn(project('q_proj', config.heads), 'q_norm');
  const k = turn(project('k_proj', config.keyValueHeads), 'k_norm');
  const v = project('v_proj', config.keyValueHeads);
  return source.linear(`${path}.o_proj`, attend(q, k, v, { window, scale }));
}
