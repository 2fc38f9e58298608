/** Compares two models on the same documents. */
import { aggregate, type MetricValue, statisticOf } from '../metrics/aggregate.ts';
import type { TaskMetric } from '../tasks/metric-list.ts';
import type { EvaluatedTask } from '../tasks/results.ts';
import { valuesOf } from '../tasks/task.ts';
import { type Judged, judged } from './holm.ts';
import { bootstrapDifference, meanDifference, type PairedDifference, ratioDifference } from './paired.ts';

/**
 * A metric of a task for two models: `value` for the model, and `against` for the model that it is compared
 * with.
 */
export interface MetricComparison extends Judged {
  readonly task: string;
  readonly metric: string;
  readonly filter: string;
  readonly higherIsBetter: boolean;
  readonly documents: number;
  readonly value: number;
  readonly against: number;
  /**
   * The model's value minus the other model's value, in percentage points or in points of the metric (`unit`
   * is `points`). For a perplexity, the relative change in percent (`unit` is `%`).
   */
  readonly change: number;
  readonly unit: 'points' | '%';
  /** Bounds of the 95 % confidence interval of `change`. */
  readonly low: number;
  readonly high: number;
  /** p-value of this metric alone. */
  readonly p: number;
}

/** The differences between two models on the same documents. */
export interface Comparison {
  readonly metrics: readonly MetricComparison[];
  /** A sentence for people that compares the models on the first metric of each task. */
  readonly summary: string;
}

/**
 * Compares two models.
 * @param model results of one model
 * @param against results of the other model on the same tasks, with the same documents
 */
export function compare(model: readonly EvaluatedTask[], against: readonly EvaluatedTask[]): Comparison {
  const differences = model.flatMap((evaluated, i) => {
    const { metrics: list, filters, name } = evaluated.task.config;
    return filters.flatMap(({ name: filter }) =>
      list.map((metric) => {
        const values = valuesOf(evaluated.documents, metric.name, filter);
        const others = valuesOf(against[i]!.documents, metric.name, filter);
        return { task: name, filter, ...compareMetric(metric, values, others) };
      }),
    );
  });
  const metrics = judged(differences, ({ change, higherIsBetter }) =>
    change === 0 ? null : change > 0 === higherIsBetter,
  );
  return { metrics, summary: summaryOf(metrics) };
}

function compareMetric(
  { name, aggregation, higherIsBetter }: TaskMetric,
  values: readonly MetricValue[],
  others: readonly MetricValue[],
): Omit<MetricComparison, 'task' | 'filter' | keyof Judged> {
  const [value, against] = [aggregate(aggregation, values), aggregate(aggregation, others)];
  const effect = effectOf(aggregation, values, others, against);
  return { metric: name, higherIsBetter, documents: values.length, value, against, ...effect };
}

type Effect = Pick<MetricComparison, 'change' | 'unit' | 'low' | 'high' | 'p'>;

function effectOf(
  aggregation: TaskMetric['aggregation'],
  values: readonly MetricValue[],
  others: readonly MetricValue[],
  against: number,
): Effect {
  switch (aggregation) {
    case 'mean':
      return scaled(meanDifference(others as readonly number[], values as readonly number[]), 100);
    case 'perplexity':
      return ofPerplexity(meanDifference(others as readonly number[], values as readonly number[]));
    case 'weighted_perplexity':
      return ofPerplexity(ratioDifference(weighted(others), weighted(values)));
    case 'bits_per_byte': {
      // A higher log-probability means fewer bits, so the sign changes, and the two ends of the interval are exchanged.
      const { difference, low, high, p } = ratioDifference(weighted(others), weighted(values));
      const percent = (nats: number) => (-100 * nats) / Math.LN2 / against;
      return { change: percent(difference), low: percent(high), high: percent(low), p, unit: '%' };
    }
    default: {
      const scale = ['f1', 'matthews_corrcoef'].includes(aggregation) ? 100 : 1;
      const [first, second] = [statisticOf(aggregation, others), statisticOf(aggregation, values)];
      return scaled(bootstrapDifference(first, second, values.length), scale);
    }
  }
}

function weighted(values: readonly MetricValue[]): readonly (readonly [number, number])[] {
  return values as readonly (readonly [number, number])[];
}

function scaled({ difference, low, high, p }: PairedDifference, scale: number): Effect {
  return { change: scale * difference, low: scale * low, high: scale * high, p, unit: 'points' };
}

/** Turns a difference of mean log-probabilities into the relative change of the perplexity. */
function ofPerplexity({ difference, low, high, p }: PairedDifference): Effect {
  const percent = (nats: number) => 100 * Math.expm1(-nats);
  return { change: percent(difference), low: percent(high), high: percent(low), p, unit: '%' };
}

/** Says on which tasks the model is better and worse, by the first metric of each task. */
function summaryOf(metrics: readonly MetricComparison[]): string {
  const seen = new Set<string>();
  const first = metrics.filter(({ task }) => !seen.has(task) && seen.add(task));
  const parts = (['better', 'worse'] as const).flatMap((verdict) => {
    const some = first.filter((metric) => metric.verdict === verdict);
    return some.length === 0 ? [] : [`${verdict} on ${some.map(amount).join(' and ')}`];
  });
  const unclear = first.filter(({ verdict }) => verdict === 'noise').map(({ task }) => task);
  if (unclear.length > 0) parts.push(`no clear difference on ${unclear.join(', ')}`);
  return parts.join('; ');
}

function amount(comparison: MetricComparison): string {
  const { task, metric, change, unit } = comparison;
  return `${task} by ${amountText(Math.abs(change), 3)} ${unit} (${metric})`;
}

/**
 * Formats a change with the bounds of its 95 % interval: "+134 % (+1.4 to +440)". The change need not be in the middle of the
 * interval, so a margin would not say whether the interval contains 0.
 */
export function changeText({
  change,
  low,
  high,
  unit,
}: Pick<MetricComparison, 'change' | 'low' | 'high' | 'unit'>): string {
  const rounded = (value: number, digits: number): number => Number(value.toPrecision(digits));
  // With two digits, rounding can put the bounds on the wrong side of the change: 13.3 is not between −2.7 and 13.
  const contains = rounded(low, 2) <= rounded(change, 3) && rounded(change, 3) <= rounded(high, 2);
  const digits = contains ? 2 : 3;
  const bounds =
    Number.isFinite(low) && Number.isFinite(high)
      ? `${signed(low, digits)} to ${signed(high, digits)}`
      : 'unknown';
  return `${signed(change, 3)} ${unit} (${bounds})`;
}

/** Formats a number with its sign and the given number of significant digits. */
function signed(value: number, digits: number): string {
  return `${value < 0 ? '−' : value > 0 ? '+' : ''}${amountText(Math.abs(value), digits)}`;
}

function amountText(size: number, digits: number): string {
  if (size === 0) return '0';
  if (size < 1e-3 || size >= 1e6) return size.toExponential(digits - 1).replace('e+', 'e');
  // The number of digits before the point after rounding, which can carry: 99.96 becomes 100.
  const whole = Math.floor(Math.log10(Number(size.toPrecision(digits)))) + 1;
  return size.toFixed(Math.max(0, digits - whole));
}

/** Formats a probability: "0.0312", or "< 0.0001". */
export function probabilityText(p: number): string {
  return p < 1e-4 ? '< 0.0001' : p.toFixed(4);
}
