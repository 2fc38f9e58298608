/** Rules that combine tensors of equal shape value by value, as PEFT's `merge_utils.py` (0.21.2) defines them. */

/**
 * Rule that elects a sign from several values. `total` takes the sign of their sum. `frequency` takes the sign that more of
 * the values have.
 */
export type SignRule = 'total' | 'frequency';

/** Returns Σ wᵢ tᵢ. Sums in double precision and rounds once. */
export function weightedSum(tensors: readonly Float32Array[], weights: readonly number[]): Float32Array {
  return tensors[0]!.map((_, j) => tensors.reduce((sum, tensor, i) => sum + weights[i]! * tensor[j]!, 0));
}

/**
 * Keeps the ⌊density·n⌋ values of the largest magnitude, and sets all other values to 0. If several values
 * have the same magnitude, the first of them are kept. PEFT leaves this choice open.
 */
export function keepLargest(tensor: Float32Array, density: number): Float32Array {
  if (density >= 1) return tensor;
  const order = Uint32Array.from(tensor, (_, j) => j);
  order.sort((i, j) => Math.abs(tensor[j]!) - Math.abs(tensor[i]!) || i - j);
  const kept = new Float32Array(tensor.length);
  for (const j of order.subarray(0, Math.floor(density * tensor.length))) kept[j] = tensor[j]!;
  return kept;
}

/**
 * Keeps each value with the probability `density`, and divides it by `density` (DARE, Yu et al. 2024).
 * @param uniform returns random numbers in [0, 1), one for each value
 */
export function keepRandom(tensor: Float32Array, density: number, uniform: () => number): Float32Array {
  if (density >= 1) return tensor;
  return tensor.map((value) => (uniform() < density ? value / density : 0));
}

/**
 * Merges values whose signs agree (TIES, Yadav et al. 2023). For each entry, `rule` elects a sign from the unweighted
 * values of all tensors. The result is the mean of wᵢ tᵢ over the values with this sign. A value of 0 has no sign, so it counts
 * neither in the election nor in the mean.
 */
export function mergeAgreeing(
  tensors: readonly Float32Array[],
  weights: readonly number[],
  rule: SignRule,
): Float32Array {
  return tensors[0]!.map((_, j) => {
    const vote = tensors.reduce((sum, tensor) => {
      const value = tensor[j]!;
      return sum + (rule === 'total' ? value : Math.sign(value));
    }, 0);
    const sign = vote >= 0 ? 1 : -1;
    const agreeing = tensors.flatMap((tensor, i) =>
      Math.sign(tensor[j]!) === sign ? [weights[i]! * tensor[j]!] : [],
    );
    return agreeing.reduce((sum, value) => sum + value, 0) / Math.max(1, agreeing.length);
  });
}
