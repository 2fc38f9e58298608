import { createHash } from 'node:crypto';
import type { Graph, Tensor } from '../graph/graph.ts';
import {
  add,
  addmm,
  detach,
  divide,
  dropout,
  gatherRows,
  linear,
  multiply,
  randomSeed,
  reduceSum,
  sqrt,
  subtract,
  transpose,
} from '../graph/ops.ts';
import type { ParameterSource, TrainableSource } from './architecture.ts';
import { sourceOf } from './parameters.ts';
import type { ModelShape, TargetModule } from './targets.ts';

/** Prefix that PEFT puts before a module path in the names of adapter tensors. */
export const PEFT_PREFIX = 'base_model.model.';

/** Returns PEFT's name of a module's matrix A [r, in] or B [out, r]. */
export function matrixName(module: Pick<TargetModule, 'name' | 'embedding'>, matrix: 'A' | 'B'): string {
  const suffix = module.embedding ? `lora_embedding_${matrix}` : `lora_${matrix}.weight`;
  return `${PEFT_PREFIX}${module.name}.${suffix}`;
}

/** Returns the module to which the matrix A with this tensor name belongs; null for other tensors. */
export function adaptedModuleOf(tensor: string): string | null {
  const suffix = ['.lora_A.weight', '.lora_embedding_A'].find((ending) => tensor.endsWith(ending));
  return suffix === undefined ? null : tensor.slice(PEFT_PREFIX.length, -suffix.length);
}

/** Returns the name of DoRA's magnitude [out] in PEFT's files, where the name does not end in `.weight`. */
export function magnitudeName(module: string): string {
  return `${PEFT_PREFIX}${module}.lora_magnitude_vector`;
}

/** Returns the name that the adapter's tensor has for a parameter of a saved module. */
export function savedName(parameter: string): string {
  return `${PEFT_PREFIX}${parameter}`;
}

/**
 * Returns the name of the adapter's tensor for a trained bias. PEFT wraps an adapted module, so `.base_layer` is
 * added to the path of its bias.
 */
export function biasName(module: string, adapted: boolean): string {
  return `${PEFT_PREFIX}${module}${adapted ? '.base_layer' : ''}.bias`;
}

/** A module with its low-rank change `scale`·B A. */
export interface AdaptedModule extends TargetModule {
  readonly rank: number;
  /** α / r, or α / √r with rank-stabilised scaling (rsLoRA). */
  readonly scale: number;
}

/** A trained copy of a base parameter: a bias, or a parameter of a saved module. */
export interface TrainedCopy {
  /** Name of the copy in the adapter. */
  readonly tensor: string;
  /**
   * Name of the parameter that the copy replaces. A tied output head has no separate parameter, so its copy replaces
   * the name `<head>.weight`.
   */
  readonly parameter: string;
  /** Name of the parameter that has the initial values of the copy. */
  readonly from: string;
  readonly shape: readonly number[];
  readonly group: 'bias' | 'saved';
}

export interface LoraPlacement {
  readonly modules: readonly AdaptedModule[];
  /** Trained copies of base parameters. Default: none. */
  readonly copies?: readonly TrainedCopy[];
  /** Whether the modules have magnitudes (DoRA). Default: false. */
  readonly useDora?: boolean;
  /** Whether A is frozen: an input of the graph without a gradient. Default: false. */
  readonly freezeA?: boolean;
  /** Share of A's inputs that dropout sets to zero in training graphs. Default: 0. */
  readonly dropout?: number;
}

/** The tensors of one adapted module. */
interface Branch {
  readonly module: AdaptedModule;
  readonly a: Tensor;
  readonly b: Tensor;
  readonly magnitude: Tensor | null;
}

/**
 * Returns the frozen base with LoRA matrices (Hu et al. 2021): y = x Wᵀ + b + s·(x Aᵀ) Bᵀ, or with DoRA (Liu et al. 2024,
 * arXiv 2402.09353): y = b + m/‖W + s·BA‖ ⊙ (x Wᵀ + s·(x Aᵀ) Bᵀ). The norm is taken over each row of the [out, in] weight
 * and is a constant in the backward pass (section 4.3 of that paper). The adapter's tensors are inputs of the graph, fed
 * under their PEFT names. Row v of an adapted embedding is W[v] + s·A[:, v] Bᵀ. If the embedding is trained, with
 * matrices or as a saved module, a tied output head still uses the base's weight, as in PEFT.
 */
export function withLora(graph: Graph, model: ModelShape, placement: LoraPlacement): TrainableSource {
  const { modules, copies = [], useDora = false, freezeA = false, dropout: rate = 0 } = placement;
  const trainable = new Map<string, Tensor>();
  const train = (name: string, shape: readonly number[]): Tensor => {
    const tensor = graph.input(name, shape);
    trainable.set(name, tensor);
    return tensor;
  };
  const branches = new Map<string, Branch>();
  for (const module of modules) {
    const nameOfA = matrixName(module, 'A');
    const shapeOfA = [module.rank, module.in];
    branches.set(module.name, {
      module,
      a: freezeA ? graph.input(nameOfA, shapeOfA) : train(nameOfA, shapeOfA),
      b: train(matrixName(module, 'B'), [module.out, module.rank]),
      magnitude: useDora ? train(magnitudeName(module.name), [module.out]) : null,
    });
  }
  const replaced = new Map(copies.map(({ parameter, tensor, shape }) => [parameter, train(tensor, shape)]));
  const base = baseWith(graph, model, replaced);
  return {
    ...base,
    trainable,
    rows(name, ids) {
      const plain = base.rows(name, ids);
      const branch = branches.get(name.slice(0, name.lastIndexOf('.')));
      if (!branch) return plain;
      return linear(gatherRows(transpose(branch.a), ids), branch.b, {
        scale: branch.module.scale,
        addTo: plain,
      });
    },
    linear(name, x) {
      const branch = branches.get(name);
      if (!branch) return base.linear(name, x);
      const dropped = rate === 0 ? x : dropout(x, rate, randomSeed(graph), streamOf(name));
      return branch.magnitude === null
        ? plainBranch(base, branch, x, dropped)
        : doraBranch(base, branch, branch.magnitude, x, dropped);
    },
  };
}

function plainBranch(base: ParameterSource, { module, a, b }: Branch, x: Tensor, dropped: Tensor): Tensor {
  return linear(linear(dropped, a), b, { scale: module.scale, addTo: base.linear(module.name, x) });
}

/**
 * Returns base(x) + (f − 1) ⊙ W d + f ⊙ s·B A d, where f is m/‖W + s·BA‖ and d is x after dropout. As in PEFT, the
 * base's own output is computed without dropout.
 */
function doraBranch(
  base: ParameterSource,
  { module, a, b }: Branch,
  magnitude: Tensor,
  x: Tensor,
  dropped: Tensor,
): Tensor {
  const { name, scale, bias } = module;
  const weight = base.weight(name);
  const changed = addmm(weight, b, a, { scale });
  const norm = detach(sqrt(reduceSum(multiply(changed, changed), 1)));
  const factor = divide(magnitude, norm);
  const plain = linear(dropped, weight);
  const scaled = multiply(linear(linear(dropped, a), b, { scale, addTo: plain }), factor);
  if (dropped !== x) return add(subtract(base.linear(name, x), plain), scaled);
  return bias ? add(scaled, base.tensor(`${name}.bias`)) : scaled;
}

/** Returns the base with some parameters replaced by trained copies. */
function baseWith(graph: Graph, model: ModelShape, replaced: ReadonlyMap<string, Tensor>): ParameterSource {
  const { architecture, config } = model;
  const { head, embedding } = architecture;
  const base = sourceOf(
    architecture,
    config,
    (name, shape) => replaced.get(name) ?? graph.weight(name, shape),
  );
  const copy = replaced.get(`${head}.weight`);
  if (!config.tieWordEmbeddings || (copy === undefined && !replaced.has(embedding))) return base;
  const weight = copy ?? graph.weight(embedding, replaced.get(embedding)!.shape);
  return {
    ...base,
    weight: (module) => (module === head ? weight : base.weight(module)),
    linear: (module, x) => (module === head ? linear(x, weight) : base.linear(module, x)),
  };
}

/**
 * Returns the number of the random stream for a module's dropout. The number depends only on the module's
 * name.
 */
function streamOf(module: string): number {
  return createHash('sha256').update(module).digest().readUInt32LE(0) >>> 1;
}
