/** Standard errors of aggregations, as lm-evaluation-harness 0.4.13 computes them. */

import { PythonRandom } from '../python/random.ts';
import { type Aggregation, type MetricValue, type Statistic, statisticOf } from './aggregate.ts';

/** Number of bootstrap samples for aggregations that are quick to compute. */
const RESAMPLES = 100_000;
/**
 * Number of bootstrap samples for BLEU and chrF, the same as in lm-evaluation-harness. That program draws so
 * few samples because these scores are slow in Python.
 */
const TEXT_RESAMPLES = 100;
/** Number of bootstrap samples that are drawn with one random generator. The generator of chunk i has the seed i. */
const CHUNK = 1000;

/**
 * Method for the standard error of each aggregation: the formula for a mean, or a number of bootstrap samples. An
 * aggregation that is not listed has no standard error.
 */
const METHODS: { readonly [K in Aggregation]?: 'mean' | number } = {
  mean: 'mean',
  median: RESAMPLES,
  perplexity: RESAMPLES,
  f1: RESAMPLES,
  matthews_corrcoef: RESAMPLES,
  bleu: TEXT_RESAMPLES,
  chrf: TEXT_RESAMPLES,
  'chrf++': TEXT_RESAMPLES,
};

/**
 * Returns the standard error of an aggregation; null if the aggregation has none, or for fewer than two documents.
 * @param pause called between chunks of the bootstrap; throws in order to abort
 */
export async function standardError(
  aggregation: Aggregation,
  values: readonly MetricValue[],
  pause: () => Promise<void>,
): Promise<number | null> {
  const method = METHODS[aggregation];
  if (method === undefined || values.length < 2) return null;
  if (method === 'mean') {
    return sampleDeviation(Float64Array.from(values as readonly number[])) / Math.sqrt(values.length);
  }
  return bootstrapError(statisticOf(aggregation, values), values.length, method, pause);
}

/**
 * Returns the standard deviation of a statistic over bootstrap samples of the documents.
 * @param resamples number of bootstrap samples. It must be a multiple of CHUNK or less than CHUNK.
 */
export async function bootstrapError(
  statistic: Statistic,
  count: number,
  resamples: number,
  pause: () => Promise<void>,
): Promise<number> {
  const results = new Float64Array(resamples);
  const documents = new Uint32Array(count);
  const chunk = Math.min(CHUNK, resamples);
  for (let start = 0; start < resamples; start += chunk) {
    await pause();
    const random = new PythonRandom(start / chunk);
    for (let i = 0; i < chunk; i++) {
      random.choices(count, documents);
      results[start + i] = statistic(documents);
    }
  }
  return sampleDeviation(results);
}

/** Returns √(Σ(x − x̄)² / (n − 1)). */
export function sampleDeviation(values: Float64Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) * (value - mean), 0);
  return Math.sqrt(squares / (values.length - 1));
}
