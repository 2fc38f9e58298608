import type { WeightEntry, WeightFile } from '../engines/weights.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { add, linear, slice } from '../graph/ops.ts';
import type { LinearModule, ParameterSource } from './architecture.ts';
import type { ModelShape } from './targets.ts';

/** Names of modules that have the same input. */
const SAME_INPUT = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['gate_proj', 'up_proj'],
];

/** Modules that have the same input, so that one matrix product can compute all their outputs. */
export interface JointProduct {
  /** Name of the joint weight in a weight file. */
  readonly name: string;
  readonly modules: readonly LinearModule[];
  /** Shape of the joint weight: the sum of the modules' output sizes, and their input size. */
  readonly shape: readonly [out: number, width: number];
}

/** Lists the groups of modules of a model that one matrix product can compute. */
export function jointProducts({ architecture, config }: ModelShape): JointProduct[] {
  const modules = new Map(architecture.linearModules(config).map((module) => [module.name, module]));
  const parents = new Set([...modules.keys()].map((name) => name.slice(0, name.lastIndexOf('.') + 1)));
  return [...parents].flatMap((parent) =>
    SAME_INPUT.flatMap((names) => {
      const found = names.flatMap((name) => modules.get(`${parent}${name}`) ?? []);
      if (found.length < names.length || found.some(({ conv1d }) => conv1d)) return [];
      const out = found.reduce((sum, module) => sum + module.out, 0);
      const name = found.map((module) => `${module.name}.weight`).join('+');
      return [{ name, modules: found, shape: [out, found[0]!.in] as const }];
    }),
  );
}

/**
 * Adds entries for joint weights to a float32 weight file. A joint weight consists of the weights of several
 * modules (see `JointProduct`). If these weights follow each other in the file without a gap, the joint
 * weight gets an entry, which needs no new data. Otherwise, it gets no entry.
 */
export function withJointWeights(model: ModelShape, weights: WeightFile): WeightFile {
  const entries = new Map(weights.entries);
  for (const { name, modules, shape } of jointProducts(model)) {
    const parts = modules.map((module) => weights.entries.get(`${module.name}.weight`));
    const length = parts.reduce((sum, part) => sum + (part?.length ?? 0), 0);
    const isGapless = parts.every((part, i) => part && (i === 0 || part.offset === endOf(parts[i - 1]!)));
    if (isGapless) entries.set(name, { offset: parts[0]!.offset, length, shape });
  }
  return { ...weights, entries };
}

function endOf({ offset, length }: WeightEntry): number {
  return offset + length;
}

/**
 * Returns a parameter source that computes several modules with one matrix product if the weight file has a joint
 * weight for these modules.
 */
export function withJointProducts(
  graph: Graph,
  model: ModelShape,
  base: ParameterSource,
  weights: WeightFile,
): ParameterSource {
  const places = new Map<string, { product: JointProduct; start: number; module: LinearModule }>();
  for (const product of jointProducts(model)) {
    if (!weights.entries.has(product.name) && !weights.blocked?.has(product.name)) continue;
    let start = 0;
    for (const module of product.modules) {
      places.set(module.name, { product, start, module });
      start += module.out;
    }
  }
  return {
    ...base,
    linear(name, x: Tensor) {
      const place = places.get(name);
      if (place === undefined) return base.linear(name, x);
      const { product, start, module } = place;
      // All modules add this product to the graph. The graph merges equal operations on equal operands, so it is
      // computed once.
      const whole = linear(x, graph.weight(product.name, product.shape));
      const part = slice(whole, 1, start, start + module.out);
      return module.bias ? add(part, base.tensor(`${name}.bias`)) : part;
    },
  };
}
