/**
 * Norms, cosines and ranks of the changes ΔW = scale·B A of adapters. They are computed from r×r matrices, because the
 * product B A is as large as the weight. Sums are in double precision.
 */
import { type AbortOptions, nextTurn } from '../../common/abort-reason.ts';
import type { ModuleMatrices } from './matrices.ts';
import { eigenvalues, symmetricEigen } from './symmetric-eigen.ts';

/** The changes that two adapters make to the weight of one module. */
export interface ModuleComparison {
  readonly name: string;
  /** Rank of the matrices in each adapter; null if the adapter does not change the module. */
  readonly rank: readonly [number | null, number | null];
  /** Frobenius norms ‖ΔW‖; 0 if the adapter does not change the module. */
  readonly norm: readonly [number, number];
  /** Effective ranks of the changes (see {@link effectiveRank}); 0 if the adapter does not change the module. */
  readonly effectiveRank: readonly [number, number];
  /** Cosine of the changes ΔW₁ and ΔW₂ of the two adapters, as vectors; null if one of the changes is zero. */
  readonly cosine: number | null;
  /**
   * Norm of the difference of the two adapters' changes, ‖ΔW₂ − ΔW₁‖. It is computed from the norms and the inner
   * product. A value below 10⁻⁷ of the larger norm is only a rounding error, and is set to 0.
   */
  readonly difference: number;
}

/**
 * Compares two adapters module by module. Returns all modules that at least one of them changes, sorted by name.
 * @throws the signal's reason
 */
export async function compareAdapters(
  first: readonly ModuleMatrices[],
  second: readonly ModuleMatrices[],
  { signal }: AbortOptions = {},
): Promise<ModuleComparison[]> {
  const [one, two] = [first, second].map(
    (modules) => new Map(modules.map((module) => [module.name, module])),
  );
  const names = [...new Set([...one!.keys(), ...two!.keys()])].sort();
  const compared: ModuleComparison[] = [];
  for (const name of names) {
    await nextTurn(signal);
    compared.push(compareModules(name, one!.get(name) ?? null, two!.get(name) ?? null));
  }
  return compared;
}

/**
 * Largest rounding error of a difference, as a fraction of the larger norm. It is about the square root of float64's
 * relative precision, because the difference is the square root of a rounded number.
 */
const ROUNDING = 1e-7;

function compareModules(
  name: string,
  first: ModuleMatrices | null,
  second: ModuleMatrices | null,
): ModuleComparison {
  const norm = [deltaNorm(first), deltaNorm(second)] as const;
  const fits = first !== null && second !== null && first.in === second.in && first.out === second.out;
  const product = fits ? innerProduct(first, second) : 0;
  const bothChange = norm[0] > 0 && norm[1] > 0;
  const difference = Math.sqrt(Math.max(0, norm[0] ** 2 + norm[1] ** 2 - 2 * product));
  return {
    name,
    rank: [first?.rank ?? null, second?.rank ?? null],
    norm,
    effectiveRank: [effectiveRank(first), effectiveRank(second)],
    // Rounding can make the quotient slightly larger than 1 or smaller than −1.
    cosine: bothChange && fits ? Math.max(-1, Math.min(1, product / (norm[0] * norm[1]))) : null,
    difference: difference < ROUNDING * Math.max(...norm) ? 0 : difference,
  };
}

/**
 * Returns the Frobenius norm of a module's change of the weights, scale·B A. Returns 0 if the module is null.
 */
export function deltaNorm(module: ModuleMatrices | null): number {
  return module === null ? 0 : Math.sqrt(Math.max(0, innerProduct(module, module)));
}

/** Returns ⟨s₁B₁A₁, s₂B₂A₂⟩ = s₁s₂ Σᵢⱼ (B₁ᵀB₂)ᵢⱼ (A₁A₂ᵀ)ᵢⱼ. Both modules must have the same shape. */
function innerProduct(first: ModuleMatrices, second: ModuleMatrices): number {
  const left = columnProducts(first, second);
  const right = rowProducts(first, second);
  return first.scale * second.scale * left.reduce((sum, value, i) => sum + value * right[i]!, 0);
}

/**
 * Returns the effective rank of scale·B A (Roy and Vetterli 2007): the exponential of the entropy of the singular
 * values divided by their sum. It is k if k singular values are equal and all others are 0. It is 0 if the matrix is
 * zero.
 */
export function effectiveRank(module: ModuleMatrices | null): number {
  if (module === null) return 0;
  const singular = singularValues(module);
  const sum = singular.reduce((total, value) => total + value, 0);
  if (!(sum > 0)) return 0;
  const entropy = singular.reduce((total, value) => {
    const share = value / sum;
    return share > 0 ? total - share * Math.log(share) : total;
  }, 0);
  return Math.exp(entropy);
}

/**
 * Returns the singular values of s·B A, largest first: as many as the rank, because all others are 0. Here s is the
 * scale of the module. Values below 10⁻⁷ of the largest are only rounding errors.
 *
 * With BᵀB = U Λ Uᵀ, the squares of the singular values are the eigenvalues of s² Λ^½ Uᵀ (A Aᵀ) U Λ^½.
 */
export function singularValues(module: ModuleMatrices): number[] {
  const { rank, scale } = module;
  const { values, vectors } = symmetricEigen(columnProducts(module, module), rank);
  const roots = values.map((value) => Math.sqrt(Math.max(0, value)));
  const gram = rowProducts(module, module);
  // half = (A Aᵀ) U Λ^½
  const half = new Float64Array(rank * rank);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j < rank; j++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += gram[i * rank + k]! * vectors[k * rank + j]!;
      half[i * rank + j] = sum * roots[j]!;
    }
  const squares = new Float64Array(rank * rank);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j < rank; j++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += vectors[k * rank + i]! * half[k * rank + j]!;
      squares[i * rank + j] = sum * roots[i]!;
    }
  return eigenvalues(squares, rank)
    .map((value) => Math.abs(scale) * Math.sqrt(Math.max(0, value)))
    .sort((x, y) => y - x);
}

/** Returns B₁ᵀ B₂: [rank₁, rank₂]. */
function columnProducts(first: ModuleMatrices, second: ModuleMatrices): Float64Array {
  const result = new Float64Array(first.rank * second.rank);
  for (let row = 0; row < first.out; row++)
    for (let i = 0; i < first.rank; i++) {
      const value = first.b[row * first.rank + i]!;
      for (let j = 0; j < second.rank; j++)
        result[i * second.rank + j]! += value * second.b[row * second.rank + j]!;
    }
  return result;
}

/** Returns A₁ A₂ᵀ: [rank₁, rank₂]. */
function rowProducts(first: ModuleMatrices, second: ModuleMatrices): Float64Array {
  const result = new Float64Array(first.rank * second.rank);
  for (let i = 0; i < first.rank; i++)
    for (let j = 0; j < second.rank; j++) {
      let sum = 0;
      for (let k = 0; k < first.in; k++) sum += first.a[i * first.in + k]! * second.a[j * second.in + k]!;
      result[i * second.rank + j] = sum;
    }
  return result;
}
