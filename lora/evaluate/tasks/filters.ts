/** lm-evaluation-harness's filters, which extract an answer from the responses of a model. */

import type { PythonPattern } from '../python/regex.ts';
import { strip } from '../python/text.ts';
import { compilePattern, type OutputType } from './metric-list.ts';
import type { TaskFile } from './task-file.ts';

/** Changes the responses to one document. */
type Step = (responses: readonly string[]) => readonly string[];

/** A named pipeline of filters. Its metrics are reported under `metric,name`. */
export interface FilterPipeline {
  readonly name: string;
  /** Returns the answer of a document. @param responses one response for each repeat */
  apply(responses: readonly string[]): string;
}

const KEY = 'filter_list';
const FIRST: FilterPipeline = { name: 'none', apply: ([first = '']) => first };
const DEFAULT_PATTERN = '#### (\\-?[0-9\\.\\,]+)';

/** Reads `filter_list`. Without it, the first response is the answer. @throws TASK_FILE, TASK_UNSUPPORTED */
export function parseFilters(file: TaskFile, output: OutputType): FilterPipeline[] {
  const list = file.entries.get(KEY)?.value ?? null;
  if (list === null) return [FIRST];
  if (!Array.isArray(list) || list.length === 0) throw file.wrong(KEY, 'must be a list of filters');
  return list.map((item: unknown) => parsePipeline(item, file, output));
}

function parsePipeline(item: unknown, file: TaskFile, output: OutputType): FilterPipeline {
  const { name, filter } = (item ?? {}) as { name?: unknown; filter?: unknown };
  if (typeof name !== 'string' || !Array.isArray(filter) || filter.length === 0) {
    throw file.wrong(KEY, 'has an item without name or filter');
  }
  const names = filter.map((step: { function?: unknown } | null) => String(step?.function));
  // A pipeline must end with one response. lm-evaluation-harness would pass on a list, which its metrics do not expect.
  if (names.at(-1) !== 'take_first')
    throw file.unsupported(KEY, 'a filter that does not end with take_first');
  const steps = filter
    .slice(0, -1)
    .map((step, i) => parseStep(names[i]!, step as Record<string, unknown>, file));
  if (output !== 'generate_until' && steps.length > 0) {
    throw file.unsupported(KEY, `the filter ${names[0]} of ${output}`);
  }
  return {
    name,
    apply: (responses) => steps.reduce((rest, step) => step(rest), responses)[0] ?? '',
  };
}

function parseStep(name: string, options: Record<string, unknown>, file: TaskFile): Step {
  const each =
    (change: (response: string) => string): Step =>
    (responses) =>
      responses.map(change);
  const known = STEP_OPTIONS[name];
  if (known === undefined || !Object.hasOwn(STEP_OPTIONS, name))
    throw file.unsupported(KEY, `the filter ${name}`);
  const unknown = Object.keys(options).find((key) => key !== 'function' && !known.includes(key));
  if (unknown !== undefined) throw file.unsupported(KEY, `the option ${unknown} of the filter ${name}`);
  switch (name) {
    case 'remove_whitespace':
      return each(strip);
    case 'lowercase':
      return each((response) => response.toLowerCase());
    case 'uppercase':
      return each((response) => response.toUpperCase());
    case 'regex':
      return each(extractor(options, file));
    case 'map':
      return each(mapper(options, file));
    case 'majority_vote':
      return (responses) => [mostCommon(responses)];
    case 'take_first_k': {
      const { k } = options;
      if (typeof k !== 'number' || !Number.isInteger(k) || k < 1)
        throw file.wrong(KEY, 'has take_first_k without k');
      return (responses) => responses.slice(0, k);
    }
    default:
      return (responses) => responses.slice(0, 1);
  }
}

/** Names of the options that each filter accepts. */
const STEP_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  regex: ['regex_pattern', 'group_select', 'fallback'],
  map: ['mapping_dict', 'default_value'],
  remove_whitespace: [],
  lowercase: [],
  uppercase: [],
  majority_vote: [],
  take_first: [],
  take_first_k: ['k'],
};

/**
 * Makes the filter `regex`. It returns the match with the number `group_select`. If the pattern has several groups, it
 * returns the first group of this match that is not empty.
 */
function extractor(options: Record<string, unknown>, file: TaskFile): (response: string) => string {
  const { regex_pattern = DEFAULT_PATTERN, group_select = 0, fallback = '[invalid]' } = options;
  if (typeof regex_pattern !== 'string' || !Number.isInteger(group_select) || typeof fallback !== 'string') {
    throw file.wrong(KEY, 'has a regex filter with a wrong option');
  }
  const pattern: PythonPattern = compilePattern(regex_pattern, file, KEY);
  return (response) => {
    const matches = pattern.findAll(response);
    if (matches.length === 0) return fallback;
    const match = matches.at(group_select as number);
    if (match === undefined)
      throw file.wrong(
        KEY,
        `has a regex filter with group_select ${String(group_select)}, but a response has only ${matches.length} matches`,
      );
    const found = match.length === 1 ? match[0] : match.find((group) => group !== '');
    return strip(found ?? fallback);
  };
}

function mapper(options: Record<string, unknown>, file: TaskFile): (response: string) => string {
  const { mapping_dict: mapping = {}, default_value = null } = options;
  if (typeof mapping !== 'object' || mapping === null)
    throw file.wrong(KEY, 'has a map filter without mapping_dict');
  const found = new Map(Object.entries(mapping));
  return (response) => {
    const value: unknown = found.get(response) ?? default_value;
    if (typeof value !== 'string') throw file.wrong(KEY, 'maps a response to a value that is not a text');
    return value;
  };
}

/** Returns the most common response; the earliest if several are equally common. */
function mostCommon(responses: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const response of responses) counts.set(response, (counts.get(response) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return [...counts].find(([, count]) => count === most)?.[0] ?? '';
}
