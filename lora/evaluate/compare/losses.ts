import { LARGEST_P } from './compare.ts';
import { ratioDifference } from './paired.ts';

/** Difference between the losses of two models on the same examples. */
export interface LossComparison {
  /** Number of examples with a supervised token. */
  readonly examples: number;
  /** Loss of the other model, in nats per supervised token. */
  readonly against: number;
  /** Loss of the model minus `against`. A negative change is better. */
  readonly change: number;
  /** Bounds of the 95 % confidence interval of `change`; null with fewer than two examples. */
  readonly low: number | null;
  readonly high: number | null;
  readonly p: number;
  /** `noise` if p is above 0.05: the examples do not show which model is better. */
  readonly verdict: 'better' | 'worse' | 'noise';
}

/**
 * Compares two models example by example.
 * @param model summed loss and number of supervised tokens of each example. The list has a hole at the index of an
 *   example without a supervised token
 * @param against the same figures of the other model. The list has the same holes
 */
export function compareLosses(
  model: readonly (readonly [number, number])[],
  against: readonly (readonly [number, number])[],
): LossComparison {
  // `filter` skips the holes.
  const [values, others] = [model.filter(() => true), against.filter(() => true)];
  const tokens = others.reduce((sum, [, count]) => sum + count, 0);
  const { difference, low, high, p } = ratioDifference(others, values);
  const isClear = p <= LARGEST_P && difference !== 0;
  return {
    examples: values.length,
    against: others.reduce((sum, [loss]) => sum + loss, 0) / tokens,
    change: difference,
    low: Number.isFinite(low) ? low : null,
    high: Number.isFinite(high) ? high : null,
    p,
    verdict: !isClear ? 'noise' : difference < 0 ? 'better' : 'worse',
  };
}
