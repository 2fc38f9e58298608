/** Combines adapters of one base into a new one, as PEFT's `add_weighted_adapter` (0.21.2) does. */
import { type AbortOptions, nextTurn } from '../../../common/abort-reason.ts';
import { adapterError } from '../errors.ts';
import type { ModuleMatrices } from '../matrices.ts';
import { keepLargest, keepRandom, mergeAgreeing, type SignRule, weightedSum } from './elementwise.ts';
import type { CombineMethod } from './methods.ts';
import { truncatedSvd } from './truncated-svd.ts';

/** An adapter to combine. */
export interface CombineSource {
  /** Name of the adapter in messages. */
  readonly label: string;
  /** Factor of the adapter's change. May be negative, which subtracts what the adapter has learned. */
  readonly weight: number;
  readonly modules: readonly ModuleMatrices[];
}

export interface CombineOptions {
  readonly method: CombineMethod;
  /** Share of the values that a sparse method keeps, above 0 and at most 1. @default 0.5 */
  readonly density?: number;
  /** Rank of the result of `svd`. @default the largest rank of the adapters */
  readonly rank?: number;
  /** Rule by which `ties` and `dare_ties` elect signs. @default 'total' */
  readonly signs?: SignRule;
  /** Returns uniform random numbers in [0, 1), by which `dare_linear` and `dare_ties` choose the values to keep. */
  readonly uniform: () => number;
}

/** The result of a combination: matrices of the same rank for all modules. The scale of every module is 1. */
export interface Combined {
  readonly rank: number;
  readonly modules: readonly ModuleMatrices[];
}

/**
 * Combines adapters. A module that only some adapters change is combined from those adapters alone.
 * @throws SwarmError COMBINE_RANKS if the method needs equal ranks; COMBINE_SHAPES if a module has different
 *   shapes; the signal's reason
 */
export async function combine(
  sources: readonly CombineSource[],
  { signal, ...options }: CombineOptions & AbortOptions,
): Promise<Combined> {
  const names = [...new Set(sources.flatMap(({ modules }) => modules.map(({ name }) => name)))].sort();
  const largest = Math.max(...sources.flatMap(({ modules }) => modules.map((module) => module.rank)));
  const whole = { ...options, rank: options.rank ?? largest };
  const byName = sources.map(({ modules }) => new Map(modules.map((module) => [module.name, module])));
  const combined: ModuleMatrices[] = [];
  for (const name of names) {
    await nextTurn(signal);
    const parts = sources.flatMap((source, i) => {
      const module = byName[i]!.get(name);
      return module === undefined ? [] : [{ label: source.label, weight: source.weight, module }];
    });
    requireSameShape(name, parts);
    combined.push(combineModule(parts, whole));
  }
  const rank = Math.max(...combined.map((module) => module.rank));
  return { rank, modules: combined.map((module) => padded(module, rank)) };
}

interface Part {
  readonly label: string;
  readonly weight: number;
  readonly module: ModuleMatrices;
}

function combineModule(
  parts: readonly Part[],
  options: CombineOptions & { readonly rank: number },
): ModuleMatrices {
  if (options.method === 'cat' || options.method === 'svd') return combineExactly(parts, options);
  const [first, ...others] = parts;
  const { rank } = first!.module;
  const other = others.find(({ module }) => module.rank !== rank);
  if (other !== undefined) {
    throw adapterError(
      'COMBINE_RANKS',
      `${first!.module.name} has rank ${rank} in ${first!.label} and ${other.module.rank} in ${other.label}, but "${options.method}" needs equal ranks`,
      { module: first!.module.name, ranks: [rank, other.module.rank] },
    );
  }
  // A and B are each multiplied by the square root of the weight, so that B A is multiplied by the weight. A negative sign
  // goes to A only, because a sign in both A and B would cancel.
  const factors = parts.map(({ weight, module }) => weight * module.scale);
  const roots = factors.map((factor) => Math.sqrt(Math.abs(factor)));
  const signed = factors.map((factor, i) => (factor < 0 ? -roots[i]! : roots[i]!));
  const a = combineTensors(
    parts.map(({ module }) => module.a),
    signed,
    options,
  );
  const b = combineTensors(
    parts.map(({ module }) => module.b),
    roots,
    options,
  );
  return { ...first!.module, scale: 1, a, b };
}

function combineTensors(
  tensors: readonly Float32Array[],
  weights: readonly number[],
  { method, density = 0.5, signs = 'total', uniform }: CombineOptions,
): Float32Array {
  const isRandom = method === 'dare_linear' || method === 'dare_ties';
  const kept = isRandom
    ? tensors.map((tensor) => keepRandom(tensor, density, uniform))
    : method === 'linear'
      ? tensors
      : tensors.map((tensor) => keepLargest(tensor, density));
  return method === 'ties' || method === 'dare_ties'
    ? mergeAgreeing(kept, weights, signs)
    : weightedSum(kept, weights);
}

/**
 * Returns matrices whose product B A is exactly the sum of all adapters' changes. For `cat`, A consists of the rows of
 * all A matrices, and B of the columns of all B matrices. For `svd`, this exact product is approximated with a smaller
 * rank.
 */
function combineExactly(
  parts: readonly Part[],
  { method, rank: wanted }: CombineOptions & { readonly rank: number },
): ModuleMatrices {
  const { name, in: width, out, isEmbedding } = parts[0]!.module;
  const rank = parts.reduce((sum, { module }) => sum + module.rank, 0);
  const a = new Float64Array(rank * width);
  const b = new Float64Array(out * rank);
  let start = 0;
  for (const { weight, module } of parts) {
    const factor = weight * module.scale;
    module.a.forEach((value, j) => {
      a[start * width + j] = factor * value;
    });
    for (let i = 0; i < out; i++)
      for (let r = 0; r < module.rank; r++) b[i * rank + start + r] = module.b[i * module.rank + r]!;
    start += module.rank;
  }
  const whole = { name, in: width, out, isEmbedding, scale: 1 };
  if (method === 'cat') return { ...whole, rank, a: Float32Array.from(a), b: Float32Array.from(b) };
  return { ...whole, rank: wanted, ...truncatedSvd({ rank, in: width, out, a, b }, wanted) };
}

/** Raises the rank of A and B by adding zeros, which do not change the product B A. */
function padded(module: ModuleMatrices, rank: number): ModuleMatrices {
  if (module.rank === rank) return module;
  const a = new Float32Array(rank * module.in);
  a.set(module.a);
  const b = new Float32Array(module.out * rank);
  for (let i = 0; i < module.out; i++)
    b.set(module.b.subarray(i * module.rank, (i + 1) * module.rank), i * rank);
  return { ...module, rank, a, b };
}

function requireSameShape(name: string, parts: readonly Part[]): void {
  const [first, ...others] = parts;
  const { in: width, out } = first!.module;
  const other = others.find(({ module }) => module.in !== width || module.out !== out);
  if (other === undefined) return;
  throw adapterError(
    'COMBINE_SHAPES',
    `${name} has ${width} inputs and ${out} outputs in ${first!.label}, but ${other.module.in} and ${other.module.out} in ${other.label}`,
    { module: name, adapters: [first!.label, other.label] },
  );
}
