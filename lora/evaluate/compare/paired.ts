/** Statistics of paired differences: the same documents, answered by two models. */
import type { Statistic } from '../metrics/aggregate.ts';
import { sampleDeviation } from '../metrics/standard-error.ts';
import { PythonRandom } from '../python/random.ts';

/** A difference with its 95 % interval. */
export interface PairedDifference {
  readonly difference: number;
  readonly standardError: number;
  readonly low: number;
  readonly high: number;
  /** Probability of a difference at least this large if the models were equally good, from 0 to 1. */
  readonly p: number;
}

/** Half the width of a normal distribution's 95 % confidence interval, in standard errors. */
const Z95 = 1.959963984540054;
const RESAMPLES = 2000;
/** Half of the probability that a 95 % confidence interval does not contain the difference. */
const TAIL = 0.025;
/**
 * Maximum number of documents with different values for which McNemar's exact test is used. With more such documents, a
 * normal test is used.
 */
const MAX_EXACT = 1000;

/**
 * Returns the mean difference. If all values are 0 or 1 and at most MAX_EXACT documents have different values, the p-value comes
 * from McNemar's exact test, and the 95 % confidence interval from the same binomial distribution. Otherwise both come
 * from a normal distribution. The interval contains 0 exactly if p is above 0.05.
 */
export function meanDifference(first: readonly number[], second: readonly number[]): PairedDifference {
  const differences = Float64Array.from(second, (value, i) => value - first[i]!);
  const difference = differences.reduce((sum, value) => sum + value, 0) / differences.length;
  const error =
    differences.length < 2 ? Number.NaN : sampleDeviation(differences) / Math.sqrt(differences.length);
  const isBinary = [...first, ...second].every((value) => value === 0 || value === 1);
  const gained = differences.filter((value) => value > 0).length;
  const lost = differences.filter((value) => value < 0).length;
  if (!isBinary || gained + lost > MAX_EXACT) return interval(difference, error);
  const [low, high] = exactShares(gained, gained + lost);
  const bound = (share: number): number => ((gained + lost) / differences.length) * (2 * share - 1);
  return {
    ...{ difference, standardError: error, p: mcnemar(gained, lost) },
    ...{ low: bound(low), high: bound(high) },
  };
}

/**
 * Returns the difference of two models' log-probabilities per unit of weight, Σ(b − a) / Σw. The standard error is the
 * standard error of a ratio, by the delta method.
 * @param first log-probability and weight of each document with the first model
 * @param second log-probability and weight of each document with the second model
 */
export function ratioDifference(
  first: readonly (readonly [number, number])[],
  second: readonly (readonly [number, number])[],
): PairedDifference {
  const weight = first.reduce((sum, [, w]) => sum + w, 0);
  const difference = second.reduce((sum, [score], i) => sum + score - first[i]![0], 0) / weight;
  const count = first.length;
  const squares = second.reduce((sum, [score], i) => {
    const rest = score - first[i]![0] - difference * first[i]![1];
    return sum + rest * rest;
  }, 0);
  const error = count < 2 ? Number.NaN : Math.sqrt((count / (count - 1)) * squares) / weight;
  return interval(difference, error);
}

/**
 * Returns the difference of a statistic between two models. The confidence interval (percentiles) and the p-value come from one
 * bootstrap that draws the same documents for both models, so the interval contains 0 exactly if p is above 0.05.
 */
export function bootstrapDifference(first: Statistic, second: Statistic, count: number): PairedDifference {
  const all = Uint32Array.from({ length: count }, (_, i) => i);
  const difference = second(all) - first(all);
  const random = new PythonRandom(0);
  const documents = new Uint32Array(count);
  const differences = Float64Array.from({ length: RESAMPLES }, () => {
    random.choices(count, documents);
    return second(documents) - first(documents);
  }).sort();
  const error = sampleDeviation(differences);
  // With this rank, 0 is outside the interval exactly if p is at most 0.05.
  const rank = Math.floor(TAIL * (RESAMPLES + 1)) - 1;
  const countOf = (isBeyond: (value: number) => boolean): number => differences.filter(isBeyond).length;
  const tail =
    (1 +
      Math.min(
        countOf((value) => value <= 0),
        countOf((value) => value >= 0),
      )) /
    (RESAMPLES + 1);
  return {
    ...{ difference, standardError: error },
    low: differences[rank]!,
    high: differences[RESAMPLES - 1 - rank]!,
    // A statistic can be undefined in some samples. Their difference is then unknown.
    p: Number.isNaN(error) ? 1 : Math.min(1, 2 * tail),
  };
}

function interval(difference: number, standardError: number): PairedDifference {
  const margin = Z95 * standardError;
  const p = twoSided(difference, standardError);
  return { difference, standardError, low: difference - margin, high: difference + margin, p };
}

/**
 * Returns the bounds of the exact 95 % confidence interval (Clopper and Pearson, 1934) of the share of successes.
 * Without trials, both bounds are 0.5.
 */
function exactShares(successes: number, trials: number): [number, number] {
  if (trials === 0) return [0.5, 0.5];
  const low = successes === 0 ? 0 : 1 - largestShare(trials - successes, trials);
  return [low, successes === trials ? 1 : largestShare(successes, trials)];
}

/** Returns the largest share with which at most `successes` of the trials succeed with a probability of at least TAIL. */
function largestShare(successes: number, trials: number): number {
  let [low, high] = [0, 1];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (binomialTail(successes, trials, middle) >= TAIL) low = middle;
    else high = middle;
  }
  return low;
}

/** Returns the probability of at most `successes` successes. */
function binomialTail(successes: number, trials: number, share: number): number {
  let logTerm = trials * Math.log1p(-share);
  let tail = 0;
  for (let k = 0; k <= successes; k++) {
    tail += Math.exp(logTerm);
    logTerm += Math.log((trials - k) / (k + 1)) + Math.log(share) - Math.log1p(-share);
  }
  return tail;
}

/** Two-sided p of a normal test. An error of 0 means that all differences are equal. */
function twoSided(difference: number, error: number): number {
  if (difference === 0) return 1;
  return error > 0
    ? Math.min(1, 2 * (1 - normalCdf(Math.abs(difference) / error)))
    : Number.isNaN(error)
      ? 1
      : 0;
}

/**
 * Returns the two-sided p of McNemar's exact test (1947). This is a binomial test on the documents that exactly one of
 * the models answers correctly. If the models are equally good, each is expected to be right in half of them.
 */
export function mcnemar(gained: number, lost: number): number {
  const total = gained + lost;
  let probability = 0.5 ** total;
  if (probability === 0) return twoSided(gained - lost, Math.sqrt(total));
  let tail = 0;
  for (let k = 0; k <= Math.min(gained, lost); k++) {
    tail += probability;
    probability *= (total - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

/** Normal distribution function, by Abramowitz and Stegun 7.1.26; its error is below 1.5·10⁻⁷. */
function normalCdf(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const series =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const tail = 0.5 * series * Math.exp(-x * x);
  return z >= 0 ? 1 - tail : tail;
}
