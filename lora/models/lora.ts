import { SwarmError } from '../../protocol/errors.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { linear } from '../graph/ops.ts';
import type { LinearModule, ParameterSource, TrainableSource } from './architecture.ts';

/** Prefix that PEFT puts before a module path in the names of adapter tensors. */
export const PEFT_PREFIX = 'base_model.model.';

/** `lora_A` of shape [r, in] and `lora_B` of shape [out, r], under PEFT's names. */
export function loraTensorName(module: string, matrix: 'A' | 'B'): string {
  return `${PEFT_PREFIX}${module}.lora_${matrix}.weight`;
}

/** The module path in the name of an adapter tensor: the inverse of loraTensorName. */
export function moduleOf(tensor: string): string {
  return tensor.slice(PEFT_PREFIX.length).replace(/\.lora_[AB]\.weight$/, '');
}

export interface LoraPlacement {
  /** The modules that carry an adapter. */
  readonly modules: readonly LinearModule[];
  readonly rank: number;
  /** α / r. */
  readonly scale: number;
}

/**
 * Adds low-rank adapters (Hu et al. 2021): y = x Wᵀ + (α/r)·(x Aᵀ) Bᵀ. Everything else comes from `base`.
 * A and B are inputs of the graph, fed under their PEFT names.
 *
 * @throws SwarmError LORA_RANK the rank is not a whole number of 1 or more
 */
export function withLora(graph: Graph, base: ParameterSource, placement: LoraPlacement): TrainableSource {
  const { modules, rank, scale } = placement;
  if (!Number.isInteger(rank) || rank < 1)
    throw new SwarmError('LORA_RANK', `the LoRA rank is ${rank}, expected a whole number of 1 or more`, {
      rank,
    });
  const trainable = new Map<string, Tensor>();
  const pairs = new Map<string, { a: Tensor; b: Tensor }>();
  for (const module of modules) {
    const a = graph.input(loraTensorName(module.name, 'A'), [rank, module.in]);
    const b = graph.input(loraTensorName(module.name, 'B'), [module.out, rank]);
    trainable.set(loraTensorName(module.name, 'A'), a);
    trainable.set(loraTensorName(module.name, 'B'), b);
    pairs.set(module.name, { a, b });
  }
  return {
    trainable,
    tensor: (name) => base.tensor(name),
    weight: (module) => base.weight(module),
    linear(name, x) {
      const y = base.linear(name, x);
      const pair = pairs.get(name);
      if (!pair) return y;
      return linear(linear(x, pair.a), pair.b, { scale, addTo: y });
    },
  };
}
