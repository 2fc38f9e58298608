/**
 * Reads the settings of a task from the keys of its task file. The keys mean the same as in
 * lm-evaluation-harness 0.4.13.
 */
import { basename } from 'node:path';
import { type FilterPipeline, parseFilters } from './filters.ts';
import { OUTPUT_TYPES, type OutputType, parseMetrics, type TaskMetric } from './metric-list.ts';
import type { TaskFile } from './task-file.ts';

/** Rule that makes a text from a document: the name of a column, a template or a fixed value. */
export type FieldSource = string | number | readonly unknown[] | Readonly<Record<string, unknown>>;

/** Rules by which a document is written into a prompt. */
export interface Layout {
  readonly docToText: FieldSource | null;
  readonly docToTarget: FieldSource | null;
  readonly docToChoice: FieldSource | null;
  /** Text between the question and the answer in a prompt. */
  readonly targetDelimiter: string;
  /** Text after a few-shot example. */
  readonly fewshotDelimiter: string;
  /** Beginning of the answer, which the prompt already contains. */
  readonly genPrefix: FieldSource | null;
}

/** Few-shot examples: documents with their answers, which a prompt shows before its question. */
export interface FewshotSettings extends Layout {
  readonly count: number;
  readonly sampler: 'default' | 'first_n';
  readonly split: string | null;
  /** Few-shot examples that the task file itself contains. */
  readonly samples: readonly Readonly<Record<string, unknown>>[] | null;
}

export interface GenerationSettings {
  /** Stop strings of an answer. */
  readonly until: readonly string[];
  readonly maxTokens: number;
}

export interface TaskConfig extends Layout {
  readonly name: string;
  readonly alias: string;
  readonly version: unknown;
  readonly outputType: OutputType;
  readonly file: TaskFile;
  readonly trainingSplit: string | null;
  readonly validationSplit: string | null;
  readonly testSplit: string | null;
  readonly description: string;
  readonly fewshot: FewshotSettings;
  readonly generation: GenerationSettings;
  readonly repeats: number;
  readonly filters: readonly FilterPipeline[];
  readonly metrics: readonly TaskMetric[];
}

/** Maximum number of tokens of an answer if the task file has no `max_gen_toks`. */
const DEFAULT_MAX_TOKENS = 256;
const MAX_REPEATS = 1000;

/**
 * Keys that have no effect in this program. The keys about contamination are for a comparison of documents with a list
 * of training texts, which this program does not have.
 */
const WITHOUT_EFFECT = ['tag', 'should_decontaminate', 'doc_to_decontamination_query', 'dataset_name'];
const KNOWN = new Set([
  ...['task', 'task_alias', 'metadata', 'output_type', 'dataset_path', 'dataset_kwargs', 'training_split'],
  ...['validation_split', 'test_split', 'fewshot_split', 'fewshot_config', 'num_fewshot', 'doc_to_text'],
  ...['doc_to_target', 'doc_to_choice', 'description', 'target_delimiter', 'fewshot_delimiter', 'gen_prefix'],
  ...['generation_kwargs', 'repeats', 'filter_list', 'metric_list', ...WITHOUT_EFFECT],
]);
const TOKEN_LIMITS = ['max_gen_toks', 'max_new_tokens', 'max_tokens', 'max_completion_tokens'];

/**
 * Reads the settings of a task.
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED; each error names the key, the file and the line
 */
export function parseTask(file: TaskFile): TaskConfig {
  const get = (key: string): unknown => file.entries.get(key)?.value ?? null;
  for (const [key, { value }] of file.entries) {
    if (!KNOWN.has(key) && value !== null && value !== false) throw file.unsupported(key, `the key ${key}`);
  }
  const outputType = (get('output_type') ?? 'generate_until') as OutputType;
  if (!OUTPUT_TYPES.includes(outputType)) {
    throw file.wrong('output_type', `is ${String(outputType)}; it must be one of ${OUTPUT_TYPES.join(', ')}`);
  }
  const name = optionalText(file, 'task') ?? basename(file.path).replace(/\.[^.]*$/, '');
  const metadata = get('metadata') as { version?: unknown } | null;
  const layout: Layout = {
    docToText: field(file, 'doc_to_text'),
    docToTarget: field(file, 'doc_to_target'),
    docToChoice: field(file, 'doc_to_choice'),
    targetDelimiter: optionalText(file, 'target_delimiter') ?? ' ',
    fewshotDelimiter: optionalText(file, 'fewshot_delimiter') ?? '\n\n',
    genPrefix: field(file, 'gen_prefix'),
  };
  checkFields(file, outputType, layout);
  return {
    ...layout,
    name,
    alias: optionalText(file, 'task_alias') ?? name,
    version: metadata?.version ?? 'Yaml',
    outputType,
    file,
    trainingSplit: optionalText(file, 'training_split'),
    validationSplit: optionalText(file, 'validation_split'),
    testSplit: optionalText(file, 'test_split'),
    description: optionalText(file, 'description') ?? '',
    fewshot: parseFewshot(file, layout),
    generation: parseGeneration(file, layout.fewshotDelimiter),
    repeats: count(file, 'repeats', 1, MAX_REPEATS),
    filters: parseFilters(file, outputType),
    metrics: parseMetrics(file, outputType),
  };
}

function checkFields(file: TaskFile, outputType: OutputType, layout: Layout): void {
  if (layout.docToTarget === null && !(outputType === 'multiple_choice' && layout.docToText !== null)) {
    throw file.wrong('doc_to_target', 'is missing');
  }
  if (layout.docToText === null) throw file.wrong('doc_to_text', 'is missing');
  if (outputType === 'multiple_choice' && layout.docToChoice === null) {
    throw file.wrong('doc_to_choice', 'is missing, but a multiple_choice task needs it');
  }
}

function optionalText(file: TaskFile, key: string): string | null {
  const value = file.entries.get(key)?.value ?? null;
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  throw file.wrong(key, 'must be a text');
}

function count(file: TaskFile, key: string, fallback: number, max: number): number {
  const value = file.entries.get(key)?.value ?? fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw file.wrong(key, `must be a whole number up to ${max}`);
}

function field(file: TaskFile, key: string): FieldSource | null {
  return fieldOf(file, key, file.entries.get(key)?.value ?? null);
}

function fieldOf(file: TaskFile, key: string, value: unknown): FieldSource | null {
  if (value === null || ['string', 'number', 'object'].includes(typeof value))
    return value as FieldSource | null;
  throw file.wrong(key, 'must be a column, a template or a list');
}

/** Maximum number of few-shot examples in a prompt. */
const MAX_EXAMPLES = 1000;
const FEWSHOT_KEY = 'fewshot_config';

function parseFewshot(file: TaskFile, layout: Layout): FewshotSettings {
  const settings = (file.entries.get(FEWSHOT_KEY)?.value ?? {}) as Record<string, unknown>;
  const {
    sampler = 'default',
    split = optionalText(file, 'fewshot_split'),
    samples = null,
    ...rest
  } = settings;
  if (sampler !== 'default' && sampler !== 'first_n') {
    throw file.unsupported(FEWSHOT_KEY, `the sampler ${String(sampler)}`);
  }
  if (samples !== null && !Array.isArray(samples))
    throw file.wrong(FEWSHOT_KEY, 'has samples that are not a list');
  if (split !== null && typeof split !== 'string')
    throw file.wrong(FEWSHOT_KEY, 'has a split that is not a text');
  const taken: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest)) {
    const name = FEWSHOT_FIELDS[key];
    if (name === undefined || !Object.hasOwn(FEWSHOT_FIELDS, key)) {
      if (value !== null) throw file.unsupported(FEWSHOT_KEY, `the key ${key} of fewshot_config`);
    } else if (value !== null) taken[name] = fieldOf(file, FEWSHOT_KEY, value);
  }
  return {
    ...layout,
    ...taken,
    count: count(file, 'num_fewshot', 0, MAX_EXAMPLES),
    sampler,
    split,
    samples: split === null ? (samples as FewshotSettings['samples']) : null,
  };
}

const FEWSHOT_FIELDS: Readonly<Record<string, keyof Layout>> = {
  doc_to_text: 'docToText',
  doc_to_target: 'docToTarget',
  doc_to_choice: 'docToChoice',
  target_delimiter: 'targetDelimiter',
  fewshot_delimiter: 'fewshotDelimiter',
  gen_prefix: 'genPrefix',
};

const GENERATION_KEY = 'generation_kwargs';

function parseGeneration(file: TaskFile, delimiter: string): GenerationSettings {
  const settings = file.entries.get(GENERATION_KEY)?.value ?? {};
  if (typeof settings !== 'object' || Array.isArray(settings))
    throw file.wrong(GENERATION_KEY, 'must be a mapping (lines of "key: value")');
  const {
    until = [delimiter],
    do_sample: sampled,
    temperature = 0,
    ...rest
  } = settings as Record<string, unknown>;
  if (sampled === true || (sampled !== false && Number(temperature) > 0)) {
    throw file.unsupported(GENERATION_KEY, 'sampling (do_sample, or a temperature above 0)');
  }
  const unknown = Object.keys(rest).find((key) => !TOKEN_LIMITS.includes(key));
  if (unknown !== undefined)
    throw file.unsupported(GENERATION_KEY, `the key ${unknown} of generation_kwargs`);
  const texts = Array.isArray(until) ? until : [until];
  if (!texts.every((text) => typeof text === 'string'))
    throw file.wrong(GENERATION_KEY, 'has a value of until that is not a text');
  const maxTokens = TOKEN_LIMITS.map((key) => rest[key]).find((value) => value != null) ?? DEFAULT_MAX_TOKENS;
  if (typeof maxTokens !== 'number' || !Number.isInteger(maxTokens) || maxTokens < 1) {
    throw file.wrong(GENERATION_KEY, 'has a maximum number of tokens that is not a whole number above 0');
  }
  return { until: texts as string[], maxTokens };
}
