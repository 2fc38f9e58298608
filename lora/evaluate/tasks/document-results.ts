/** Computes the values of one document in the metrics of its task, as lm-evaluation-harness 0.4.13 does. */
import { evaluateError } from '../errors.ts';
import type { MetricValue } from '../metrics/aggregate.ts';
import { exactMatch } from '../metrics/exact-match.ts';
import { ROUGE_TYPES, type RougeType, rouge } from '../metrics/rouge.ts';
import type { Likelihood } from '../model/language-model.ts';
import { codePoints, splitAtSpaces } from '../python/text.ts';
import { isList, type PythonValue, str } from '../python/values.ts';
import type { TaskConfig } from './config.ts';
import type { TaskMetric } from './metric-list.ts';

/** Values of one document by the name of the metric. */
export type DocumentValues = Readonly<Record<string, MetricValue>>;

/**
 * Returns the metrics' values of a continuation: its log-probability, and whether greedy decoding would have produced
 * it.
 */
export function continuationValues({ metrics }: TaskConfig, result: Likelihood): DocumentValues {
  return picked(metrics, { perplexity: result.logLikelihood, acc: Number(result.isGreedy) });
}

/** Returns the metrics' values of a whole text. The weight of a value is the number of words or bytes of the text. */
export function rollingValues({ metrics }: TaskConfig, text: string, logLikelihood: number): DocumentValues {
  const words = splitAtSpaces(text).length;
  const bytes = Buffer.byteLength(text);
  return picked(metrics, {
    word_perplexity: [logLikelihood, words],
    byte_perplexity: [logLikelihood, bytes],
    bits_per_byte: [logLikelihood, bytes],
  });
}

/**
 * Returns the value of each metric for a question with choices.
 * @param gold number or text of the correct choice, or a list of numbers
 * @param results likelihoods of all choices and, for `acc_mutual_info`, of all choices without the question
 */
export function choiceValues(
  { metrics, name }: TaskConfig,
  choices: readonly string[],
  gold: PythonValue,
  results: readonly Likelihood[],
): DocumentValues {
  const scores = results.slice(0, choices.length).map(({ logLikelihood }) => logLikelihood);
  const correct = correctChoices(gold, choices);
  const predicted = argmax(scores);
  const isRight = (choice: number) => Number(correct.includes(choice));
  const perLength = (lengthOf: (choice: string) => number) =>
    argmax(scores.map((score, i) => score / lengthOf(choices[i]!)));
  const values: Record<string, MetricValue> = {
    acc: isRight(predicted),
    acc_norm: isRight(perLength(codePoints)),
    acc_bytes: isRight(perLength((choice) => Buffer.byteLength(choice))),
    exact_match: Number(correct.some((choice) => results[choice]?.isGreedy === true)),
  };
  if (!isList(gold)) {
    values.f1 = [correct[0]!, predicted];
    values.mcc = [correct[0]!, predicted];
  } else if (metrics.some((metric) => metric.name === 'f1' || metric.name === 'mcc')) {
    throw evaluateError('TASK_DOCUMENT', `${name}: f1 and mcc need one correct choice, not ${str(gold)}`, {
      name,
    });
  }
  const alone = results.slice(choices.length);
  if (alone.length > 0) {
    values.acc_mutual_info = isRight(argmax(scores.map((score, i) => score - alone[i]!.logLikelihood)));
  }
  return picked(metrics, values);
}

/** Returns the metrics' values of a generated answer. @param gold correct answers */
export function answerValues(
  { metrics, name }: TaskConfig,
  gold: readonly string[],
  isSeveral: boolean,
  answer: string,
): DocumentValues {
  const values = metrics.map((metric): [string, MetricValue] => {
    if (metric.name === 'exact_match') {
      return [metric.name, Number(gold.some((one) => exactMatch(answer, one, metric.exactMatch)))];
    }
    if (ROUGE_TYPES.includes(metric.name as RougeType)) {
      return [metric.name, Math.max(...gold.map((one) => rouge(metric.name as RougeType, answer, one)))];
    }
    if (isSeveral) {
      throw evaluateError(
        'TASK_UNSUPPORTED',
        `${name}: the metric ${metric.name} supports only one correct answer, and a document has several`,
        { name, metric: metric.name },
      );
    }
    return [metric.name, [gold[0]!, answer]];
  });
  return Object.fromEntries(values);
}

function picked(
  metrics: readonly TaskMetric[],
  values: Readonly<Record<string, MetricValue>>,
): DocumentValues {
  return Object.fromEntries(metrics.map(({ name }) => [name, values[name]!]));
}

/** Returns the indices of the correct choices. A choice that does not exist gets the index −100. */
function correctChoices(gold: PythonValue, choices: readonly string[]): number[] {
  if (isList(gold)) return gold.flatMap((one) => correctChoices(one, choices));
  const index = typeof gold === 'boolean' ? Number(gold) : gold;
  if (typeof index === 'number') return [index < choices.length ? index : -100];
  const found = choices.indexOf(str(gold));
  return [found < 0 ? -100 : found];
}

/** Returns the first of the largest values, like numpy. A value that is not a number counts as the largest. */
function argmax(values: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < values.length && !Number.isNaN(values[best]!); i++) {
    if (values[i]! > values[best]! || Number.isNaN(values[i]!)) best = i;
  }
  return best;
}
