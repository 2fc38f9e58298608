import type { Tensor } from '../../graph/graph.ts';
import { multiply } from '../../graph/ops.ts';
import type { LinearModule, ParameterSource } from '../architecture.ts';

/** Lists the projections of the gated feed-forward block at `path`, e.g. `model.layers.0.mlp`. */
export function gatedMlpModules(
  path: string,
  { hiddenSize, intermediateSize, bias }: { hiddenSize: number; intermediateSize: number; bias: boolean },
): LinearModule[] {
  return [
    { name: `${path}.gate_proj`, in: hiddenSize, out: intermediateSize, bias, conv1d: false },
    { name: `${path}.up_proj`, in: hiddenSize, out: intermediateSize, bias, conv1d: false },
    { name: `${path}.down_proj`, in: intermediateSize, out: hiddenSize, bias, conv1d: false },
  ];
}

/** Applies a gated linear unit (Shazeer 2020, arXiv 2002.05202): down(activation(gate(x)) ⊙ up(x)), [N, hidden] → [N, hidden]. */
export function gatedMlp(
  source: ParameterSource,
  path: string,
  x: Tensor,
  activation: (x: Tensor) => Tensor,
): Tensor {
  const gate = activation(source.linear(`${path}.gate_proj`, x));
  return source.linear(`${path}.down_proj`, multiply(gate, source.linear(`${path}.up_proj`, x)));
}
