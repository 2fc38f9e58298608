/** Maximum adjusted p-value with which a difference is called better or worse. With a larger p-value, it is called noise. */
const LARGEST_P = 0.05;

/** A difference that is one of several in a comparison. */
export interface Judged {
  /**
   * `p` after the correction for the number of differences in the comparison (Holm). It is the smallest error probability
   * of the whole comparison at which this difference still counts as real.
   */
  readonly adjustedP: number;
  /** `noise` if `adjustedP` is above 0.05: the data do not show which model is better. */
  readonly verdict: 'better' | 'worse' | 'noise';
}

/**
 * Judges all differences of one comparison together. If the models are equally good, the probability that at least one
 * difference is called better or worse is 5 % at most, also if the differences depend on each other.
 * @param isBetter says whether a difference is in favour of the model; null if there is no difference
 */
export function judged<T extends { readonly p: number }>(
  differences: readonly T[],
  isBetter: (difference: T) => boolean | null,
): (T & Judged)[] {
  const adjusted = holm(differences.map(({ p }) => p));
  return differences.map((one, i) => {
    const adjustedP = adjusted[i]!;
    const better = adjustedP <= LARGEST_P ? isBetter(one) : null;
    return { ...one, adjustedP, verdict: better === null ? 'noise' : better ? 'better' : 'worse' };
  });
}

/** Adjusts p-values by the step-down method of Holm (1979), as R does with `p.adjust(p, "holm")`. */
export function holm(values: readonly number[]): number[] {
  const order = [...values.keys()].sort((a, b) => values[a]! - values[b]!);
  const adjusted = Array<number>(values.length).fill(1);
  let largest = 0;
  for (const [rank, i] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (values.length - rank) * values[i]!));
    adjusted[i] = largest;
  }
  return adjusted;
}
