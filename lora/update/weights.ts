import { updateError } from './errors.ts';

/**
 * Maximum number of trained tokens that count for the weight of a node, as a multiple of the median number of trained
 * tokens in the round. This limit prevents a single fast node from getting a majority of the weight.
 */
export const WEIGHT_CAP_MEDIANS = 2;

/**
 * Returns the lower median; 0 if there are no values. If there are two middle values, the lower median is the
 * smaller one. With two nodes, a node that claims a high value therefore cannot raise it.
 */
export function lowerMedian(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort();
  return sorted.length === 0 ? 0 : sorted[(sorted.length - 1) >> 1]!;
}

/**
 * Returns the weighted median: the smallest value such that this value and all smaller values have at least half of the
 * total weight. Returns 0 if there are no values.
 */
export function weightedMedian(values: readonly number[], weights: readonly number[]): number {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const half = weights.reduce((sum, weight) => sum + weight, 0) / 2;
  let reached = 0;
  for (const i of order) {
    reached += weights[i]!;
    if (reached >= half) return values[i]!;
  }
  return 0;
}

/**
 * Computes the weights of a round's updates: numbers of trained tokens, limited to twice the median, in float32.
 * @param median the median number of tokens. @default the lower median of `tokens`
 * @throws UPDATE_WEIGHT when a count is not a finite number above 0
 */
export function capWeights(tokens: readonly number[], median = lowerMedian(tokens)): number[] {
  for (const count of tokens) {
    if (Number.isFinite(count) && count > 0) continue;
    throw updateError('UPDATE_WEIGHT', `the number of tokens is ${count}; it must be finite and above 0`, {
      tokens: count,
    });
  }
  const cap = WEIGHT_CAP_MEDIANS * median;
  return tokens.map((count) => Math.fround(Math.min(count, cap)));
}

/**
 * Returns the factor for an update that started from a checkpoint τ = `rounds` rounds old: (1+τ)^−½ (Nguyen et al.,
 * "FedBuff", arXiv 2106.06639).
 * @throws UPDATE_WEIGHT when τ is not a whole number ≥ 0
 */
export function stalenessWeight(rounds: number): number {
  if (!Number.isSafeInteger(rounds) || rounds < 0) {
    throw updateError(
      'UPDATE_WEIGHT',
      `the staleness is ${rounds} rounds; it must be a whole number of at least 0`,
      {
        rounds,
      },
    );
  }
  return Math.fround(1 / Math.sqrt(1 + rounds));
}
