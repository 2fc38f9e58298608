import { AGGREGATIONS, type Aggregation } from '../metrics/aggregate.ts';
import type { ExactMatchOptions } from '../metrics/exact-match.ts';
import { ROUGE_TYPES } from '../metrics/rouge.ts';
import { PatternProblem, PythonPattern } from '../python/regex.ts';
import type { TaskFile } from './task-file.ts';

export const OUTPUT_TYPES = [
  'multiple_choice',
  'loglikelihood',
  'loglikelihood_rolling',
  'generate_until',
] as const;
export type OutputType = (typeof OUTPUT_TYPES)[number];

/** A metric of a task. Its aggregation combines the values of all documents into one figure. */
export interface TaskMetric {
  readonly name: string;
  readonly aggregation: Aggregation;
  readonly higherIsBetter: boolean;
  /** Options of `exact_match` on generated texts. */
  readonly exactMatch: ExactMatchOptions;
}

type Kind = 'number' | 'weighted' | 'choices' | 'texts';

interface Known {
  readonly kind: Kind;
  readonly aggregation: Aggregation;
  readonly lower?: true;
}

const ACCURACY: Known = { kind: 'number', aggregation: 'mean' };
const ROUGE = Object.fromEntries(ROUGE_TYPES.map((type) => [type, ACCURACY]));
const PERPLEXITY: Known = { kind: 'weighted', aggregation: 'weighted_perplexity', lower: true };

/** The metrics of each kind of task. */
const METRICS: Readonly<Record<OutputType, Readonly<Record<string, Known>>>> = {
  multiple_choice: {
    acc: ACCURACY,
    acc_norm: ACCURACY,
    acc_bytes: ACCURACY,
    acc_mutual_info: ACCURACY,
    exact_match: ACCURACY,
    f1: { kind: 'choices', aggregation: 'f1' },
    mcc: { kind: 'choices', aggregation: 'matthews_corrcoef' },
  },
  loglikelihood: {
    perplexity: { kind: 'number', aggregation: 'perplexity', lower: true },
    acc: ACCURACY,
  },
  loglikelihood_rolling: {
    word_perplexity: PERPLEXITY,
    byte_perplexity: PERPLEXITY,
    bits_per_byte: { kind: 'weighted', aggregation: 'bits_per_byte', lower: true },
  },
  generate_until: {
    exact_match: ACCURACY,
    bleu: { kind: 'texts', aggregation: 'bleu' },
    chrf: { kind: 'texts', aggregation: 'chrf' },
    'chrf++': { kind: 'texts', aggregation: 'chrf++' },
    ...ROUGE,
  },
};

/** The metrics of a task without `metric_list`. */
const DEFAULTS: Readonly<Record<OutputType, readonly string[]>> = {
  multiple_choice: ['acc', 'acc_norm'],
  loglikelihood: ['perplexity', 'acc'],
  loglikelihood_rolling: ['word_perplexity', 'byte_perplexity', 'bits_per_byte'],
  generate_until: ['exact_match'],
};

/** The aggregations that accept the values of a kind of metric. */
const ACCEPTED: Readonly<Record<Kind, readonly Aggregation[]>> = {
  number: ['mean', 'median', 'perplexity'],
  weighted: ['weighted_perplexity', 'bits_per_byte'],
  choices: ['f1', 'matthews_corrcoef'],
  texts: ['bleu', 'chrf', 'chrf++'],
};

const NO_OPTIONS: ExactMatchOptions = {
  regexesToIgnore: [],
  ignoreCase: false,
  ignorePunctuation: false,
  ignoreNumbers: false,
};
const KEY = 'metric_list';
const EXACT_OPTIONS = ['regexes_to_ignore', 'ignore_case', 'ignore_punctuation', 'ignore_numbers'];

/** Reads `metric_list`. @throws TASK_FILE, TASK_UNSUPPORTED */
export function parseMetrics(file: TaskFile, output: OutputType): TaskMetric[] {
  const list = file.entries.get(KEY)?.value ?? DEFAULTS[output].map((metric) => ({ metric }));
  if (!Array.isArray(list) || list.length === 0) throw file.wrong(KEY, 'must be a list of metrics');
  return list.map((item: unknown) => parseMetric(item, file, output));
}

function parseMetric(item: unknown, file: TaskFile, output: OutputType): TaskMetric {
  const { metric, aggregation, higher_is_better, hf_evaluate, ...options } = (item ?? {}) as Record<
    string,
    unknown
  >;
  if (typeof metric !== 'string') throw file.wrong(KEY, 'has an item without the name of a metric');
  const known = METRICS[output][metric];
  if (known === undefined || !Object.hasOwn(METRICS[output], metric)) {
    throw file.unsupported(KEY, `the metric ${metric} of ${output}`);
  }
  if (hf_evaluate) throw file.unsupported(KEY, `the metric ${metric} with hf_evaluate`);
  const chosen = (aggregation ?? known.aggregation) as Aggregation;
  if (!AGGREGATIONS.includes(chosen)) throw file.unsupported(KEY, `the aggregation ${String(aggregation)}`);
  if (!ACCEPTED[known.kind].includes(chosen)) {
    throw file.wrong(KEY, `has the aggregation ${chosen}, which does not fit the metric ${metric}`);
  }
  const takesOptions = output === 'generate_until' && metric === 'exact_match';
  const unknown = Object.keys(options).find((key) => !takesOptions || !EXACT_OPTIONS.includes(key));
  if (unknown !== undefined) throw file.unsupported(KEY, `the option ${unknown} of the metric ${metric}`);
  return {
    name: metric,
    aggregation: chosen,
    higherIsBetter: typeof higher_is_better === 'boolean' ? higher_is_better : known.lower !== true,
    exactMatch: takesOptions ? exactMatchOptions(options, file) : NO_OPTIONS,
  };
}

function exactMatchOptions(options: Record<string, unknown>, file: TaskFile): ExactMatchOptions {
  const regexes = options.regexes_to_ignore ?? [];
  if (!Array.isArray(regexes)) throw file.wrong(KEY, 'has a value of regexes_to_ignore that is not a list');
  return {
    regexesToIgnore: regexes.map((source) => compilePattern(String(source), file, KEY)),
    ignoreCase: options.ignore_case === true,
    ignorePunctuation: options.ignore_punctuation === true,
    ignoreNumbers: options.ignore_numbers === true,
  };
}

/** Compiles a regular expression of a task file. @throws TASK_UNSUPPORTED */
export function compilePattern(source: string, file: TaskFile, key: string): PythonPattern {
  try {
    return new PythonPattern(source);
  } catch (error) {
    if (!(error instanceof PatternProblem)) throw error;
    throw file.unsupported(key, `the regular expression ${source} (${error.message})`);
  }
}
