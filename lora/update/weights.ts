import { updateError } from './errors.ts';

/** A node's tokens count up to this many times the median of the round, so that speed alone buys no majority. */
export const WEIGHT_CAP_MEDIANS = 2;

/** Lower median: of two middle values the smaller one, so that one liar among two cannot move it up. Empty gives 0. */
export function lowerMedian(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort();
  return sorted.length === 0 ? 0 : sorted[(sorted.length - 1) >> 1]!;
}

/**
 * Weights of a round's updates: tokens trained, capped at twice their lower median, in float32.
 * @throws UPDATE_WEIGHT when a count is not a finite number above 0
 */
export function capWeights(tokens: readonly number[]): number[] {
  for (const count of tokens) {
    if (Number.isFinite(count) && count > 0) continue;
    throw updateError('UPDATE_WEIGHT', `A weight of ${count} tokens; it is a finite number above 0.`, {
      tokens: count,
    });
  }
  const cap = WEIGHT_CAP_MEDIANS * lowerMedian(tokens);
  return tokens.map((count) => Math.fround(Math.min(count, cap)));
}

/**
 * Factor for an update made from a checkpoint `rounds` rounds old: (1+τ)^−½ (Nguyen et al., "FedBuff", arXiv 2106.06639).
 * @throws UPDATE_WEIGHT when τ is not a whole number from 0
 */
export function stalenessWeight(rounds: number): number {
  if (!Number.isSafeInteger(rounds) || rounds < 0) {
    throw updateError('UPDATE_WEIGHT', `A staleness of ${rounds} rounds; it is a whole number from 0.`, {
      rounds,
    });
  }
  return Math.fround(1 / Math.sqrt(1 + rounds));
}
