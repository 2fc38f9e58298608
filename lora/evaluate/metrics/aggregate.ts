/**
 * Aggregations of lm-evaluation-harness, which combine the values of a metric over all documents into one
 * figure.
 */
import { type BleuCounts, bleuCounts, bleuScore } from './bleu.ts';
import { chrfCounts, chrfScore } from './chrf.ts';

/**
 * The value of one document in a metric, in one of these forms:
 * - a number
 * - a log-likelihood and a weight (`word_perplexity`, …)
 * - the correct and the predicted choice (`f1`, `mcc`)
 * - reference and prediction (`bleu`, `chrf`, …)
 */
export type MetricValue = number | readonly [number, number] | readonly [string, string];

export const AGGREGATIONS = [
  'mean',
  'median',
  'perplexity',
  'weighted_perplexity',
  'bits_per_byte',
  'f1',
  'matthews_corrcoef',
  'bleu',
  'chrf',
  'chrf++',
] as const;
export type Aggregation = (typeof AGGREGATIONS)[number];

/** Computes a figure from the documents with these indices. An index may occur several times. */
export type Statistic = (documents: Uint32Array) => number;

/**
 * Prepares an aggregation, so that it can be computed quickly for many bootstrap samples of the documents.
 * @throws RangeError if f1 is used with a choice other than 0 and 1
 */
export function statisticOf(aggregation: Aggregation, values: readonly MetricValue[]): Statistic {
  switch (aggregation) {
    case 'mean':
      return meanOf(numbers(values));
    case 'median': {
      const all = numbers(values);
      return (documents) => Float64Array.from(documents, (i) => all[i]!).sort()[documents.length >> 1]!;
    }
    case 'perplexity': {
      const mean = meanOf(numbers(values));
      return (documents) => Math.exp(-mean(documents));
    }
    case 'weighted_perplexity': {
      const mean = weightedMeanOf(values);
      return (documents) => Math.exp(-mean(documents));
    }
    case 'bits_per_byte': {
      const mean = weightedMeanOf(values);
      return (documents) => -mean(documents) / Math.log(2);
    }
    case 'f1':
      return binaryF1(values);
    case 'matthews_corrcoef':
      return matthews(values);
    case 'bleu':
      return countsOf(values, bleuCounts, bleuScore);
    case 'chrf':
      return countsOf(values, (prediction, reference) => chrfCounts(prediction, reference, 0), chrfScore);
    case 'chrf++':
      return countsOf(values, (prediction, reference) => chrfCounts(prediction, reference, 2), chrfScore);
  }
}

/** Combines the values of all documents into the figure of the task. */
export function aggregate(aggregation: Aggregation, values: readonly MetricValue[]): number {
  return statisticOf(aggregation, values)(Uint32Array.from(values.keys()));
}

function numbers(values: readonly MetricValue[]): Float64Array {
  return Float64Array.from(values as readonly number[]);
}

// All sums run in the order of the documents, like Python 3.11's `sum`. Another order could change the last digit.
function meanOf(all: Float64Array): Statistic {
  return (documents) => {
    let sum = 0;
    for (let i = 0; i < documents.length; i++) sum += all[documents[i]!]!;
    return sum / documents.length;
  };
}

function weightedMeanOf(values: readonly MetricValue[]): Statistic {
  const pairs = values as readonly (readonly [number, number])[];
  return (documents) => {
    let sum = 0;
    let weight = 0;
    for (const document of documents) {
      sum += pairs[document]![0];
      weight += pairs[document]![1];
    }
    return sum / weight;
  };
}

/**
 * Binary F1 score, as in scikit-learn's `f1_score`: choice 1 is the positive class, and choice 0 the negative class.
 */
function binaryF1(values: readonly MetricValue[]): Statistic {
  const pairs = values as readonly (readonly [number, number])[];
  if (pairs.some((pair) => pair.some((choice) => choice !== 0 && choice !== 1))) {
    throw new RangeError('f1 is defined for the choices 0 and 1 only');
  }
  return (documents) => {
    let hits = 0;
    let sum = 0;
    for (const document of documents) {
      const [correct, predicted] = pairs[document]!;
      hits += correct * predicted;
      sum += correct + predicted;
    }
    return sum === 0 ? 0 : (2 * hits) / sum;
  };
}

/** Matthews' correlation of several classes, as scikit-learn's `matthews_corrcoef` computes it. */
function matthews(values: readonly MetricValue[]): Statistic {
  const pairs = values as readonly (readonly [number, number])[];
  const classes = [...new Set(pairs.flat())];
  const indices = pairs.map((pair) => pair.map((choice) => classes.indexOf(choice)));
  return (documents) => {
    const correct = new Float64Array(classes.length);
    const predicted = new Float64Array(classes.length);
    let hits = 0;
    for (const document of documents) {
      const [c, p] = indices[document]! as [number, number];
      correct[c]!++;
      predicted[p]!++;
      if (c === p) hits++;
    }
    const total = documents.length;
    const both = hits * total - dot(correct, predicted);
    const spread = (total * total - dot(predicted, predicted)) * (total * total - dot(correct, correct));
    return spread === 0 ? 0 : both / Math.sqrt(spread);
  };
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

/**
 * Returns a function that computes a score from counts, such as BLEU. It adds up the counts of the given documents, and
 * computes the score from the sums.
 */
function countsOf(
  values: readonly MetricValue[],
  count: (prediction: string, reference: string) => BleuCounts,
  score: (counts: ArrayLike<number>) => number,
): Statistic {
  const all = (values as readonly (readonly [string, string])[]).map(([reference, prediction]) =>
    count(prediction, reference),
  );
  return (documents) => {
    const sum = new Float64Array(all[0]!.length);
    for (const document of documents) {
      const counts = all[document]!;
      for (let i = 0; i < sum.length; i++) sum[i]! += counts[i]!;
    }
    return score(sum);
  };
}
