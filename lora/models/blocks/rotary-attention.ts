import type { Graph, Tensor } from '../../graph/graph.ts';
import { attention, rotaryEmbedding } from '../../graph/ops.ts';
import type { LinearModule, ParameterSource } from '../architecture.ts';
import type { CommonConfig } from '../config.ts';
import { rotaryTables } from '../rope.ts';
import type { RopeConfig } from '../rope-config.ts';
import { splitHeads } from './heads.ts';

export interface AttentionConfig extends CommonConfig {
  /** Biases of the query, key and value projections. */
  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
}

/** Rotary tables as constants of a graph, each [P, D/2]. */
export interface RotaryConstants {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** What the attention of a layer reads besides its input. */
export interface AttentionContext {
  /** [B, T] int64. */
  readonly positions: Tensor;
  /** Tokens that each one sees at most; null for no limit. */
  readonly window: number | null;
  readonly rotary: RotaryConstants;
  /** Factor of the scores. */
  readonly scale: number;
  /** Normalises each head of the queries and keys ([B, heads, T, D]) by the norm of that module path; null for none. */
  readonly norm: ((heads: Tensor, module: string) => Tensor) | null;
}

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

/** The projections of the attention under `path`, e.g. `model.layers.0.self_attn`. */
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

/** Grouped-query attention with rotary positions, its projections included: x [B·T, hidden] → [B·T, hidden]. */
export function rotaryAttention(
  source: ParameterSource,
  config: AttentionConfig,
  path: string,
  x: Tensor,
  context: AttentionContext,
): Tensor {
  const { positions, window, rotary, scale, norm } = context;
  const batch = positions.shape[0]!;
  const project = (name: string, heads: number) =>
    splitHeads(source.linear(`${path}.${name}`, x), batch, heads);
  const turn = (heads: Tensor, name: string) => {
    const normal = norm === null ? heads : norm(heads, `${path}.${name}`);
    return rotaryEmbedding(normal, positions, rotary.cos, rotary.sin);
  };
  const q = turn(project('q_proj', config.heads), 'q_norm');
  const k = turn(project('k_proj', config.keyValueHeads), 'k_norm');
  const v = project('v_proj', config.keyValueHeads);
  return source.linear(`${path}.o_proj`, attention(q, k, v, { positions, window, scale }));
}
