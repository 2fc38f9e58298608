import { type Judged, judged } from './holm.ts';
import { ratioDifference } from './paired.ts';

/** Difference between the losses of two models on the same examples. */
export interface LossComparison extends Judged {
  /** Number of examples with a supervised token. */
  readonly examples: number;
  /** Loss of the other model, in nats per supervised token. */
  readonly against: number;
  /** Loss of the model minus `against`. A negative change is better. */
  readonly change: number;
  /** Bounds of the 95 % confidence interval of `change`; null with fewer than two examples. */
  readonly low: number | null;
  readonly high: number | null;
  /** p-value of the comparison with this model alone. */
  readonly p: number;
}

/** Summed loss and number of supervised tokens of each example. An example without a supervised token is a hole. */
type ExampleLosses = readonly (readonly [number, number])[];

/**
 * Compares a model with other models, example by example.
 * @param against the losses of each other model. The lists have holes at the same indices
 */
export function compareLosses(model: ExampleLosses, against: readonly ExampleLosses[]): LossComparison[] {
  const differences = against.map((other) => difference(model, other));
  return judged(differences, ({ change }) => (change === 0 ? null : change < 0));
}

function difference(model: ExampleLosses, against: ExampleLosses): Omit<LossComparison, keyof Judged> {
  // `filter` skips the holes.
  const [values, others] = [model.filter(() => true), against.filter(() => true)];
  const tokens = others.reduce((sum, [, count]) => sum + count, 0);
  const { difference: change, low, high, p } = ratioDifference(others, values);
  return {
    examples: values.length,
    against: others.reduce((sum, [loss]) => sum + loss, 0) / tokens,
    change,
    low: Number.isFinite(low) ? low : null,
    high: Number.isFinite(high) ? high : null,
    p,
  };
}
