/** Jinja's filters and tests, as far as task files may use them, and lm-evaluation-harness's `regex_replace`. */
import { PatternProblem, PythonPattern } from '../python/regex.ts';
import { codePoints, MAX_NUMBER_LENGTH, strip } from '../python/text.ts';
import {
  Float,
  isDictionary,
  isEqual,
  isList,
  isTrue,
  numberOf,
  type PythonValue,
  str,
} from '../python/values.ts';
import { type CallArguments, callMethod, capitalised } from './methods.ts';
import { TemplateProblem } from './problem.ts';

type Filter = (value: PythonValue, call: CallArguments) => PythonValue;

/** Returns an argument of a call, which the template may give by position or by name. */
function argument(call: CallArguments, position: number, name: string): PythonValue | undefined {
  return call.positional[position] ?? call.named.get(name);
}

/** Returns the items of a list, the characters of a text or the keys of a dictionary. */
export function itemsOf(value: PythonValue): readonly PythonValue[] {
  if (isList(value)) return value;
  if (typeof value === 'string') return [...value];
  if (isDictionary(value)) return Object.keys(value);
  throw new TemplateProblem(`${str(value)} is not a list`);
}

export function lengthOf(value: PythonValue): number {
  return typeof value === 'string' ? codePoints(value) : itemsOf(value).length;
}

function attribute(item: PythonValue, name: PythonValue): PythonValue {
  if (isDictionary(item) && typeof name === 'string' && Object.hasOwn(item, name)) return item[name]!;
  throw new TemplateProblem(`an item has no ${str(name)}`);
}

function toNumber(
  value: PythonValue,
  call: CallArguments,
  parse: (value: PythonValue) => PythonValue | null,
) {
  return parse(value) ?? argument(call, 0, 'default') ?? 0;
}

function toInteger(value: PythonValue): PythonValue | null {
  if (typeof value === 'string' && value.length > MAX_NUMBER_LENGTH) return null;
  const number =
    typeof value === 'string' ? Number(/^\s*[+-]?\d+\s*$/.test(value) ? value : toFloat(value)) : null;
  const known = number ?? numberOf(value);
  return known === null || !Number.isFinite(known) ? null : Math.trunc(known);
}

function toFloat(value: PythonValue): number | null {
  if (typeof value !== 'string') return numberOf(value);
  if (value.length > MAX_NUMBER_LENGTH) return Number.NaN;
  return /^\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*$/i.test(value) ? Number(value) : Number.NaN;
}

const FILTERS: Readonly<Record<string, Filter>> = {
  length: lengthOf,
  count: lengthOf,
  string: str,
  safe: (value) => value,
  list: (value) => [...itemsOf(value)],
  trim: (value, call) =>
    call.positional.length === 0 ? strip(str(value)) : callMethod(str(value), 'strip', call),
  lower: (value) => str(value).toLowerCase(),
  upper: (value) => str(value).toUpperCase(),
  capitalize: (value) => capitalised(str(value)),
  replace: (value, call) => callMethod(str(value), 'replace', call),
  first: (value) => item(itemsOf(value), 0),
  last: (value) => item(itemsOf(value), -1),
  reverse: (value) =>
    typeof value === 'string' ? [...value].reverse().join('') : [...itemsOf(value)].reverse(),
  abs: (value) =>
    value instanceof Float ? new Float(Math.abs(value.value)) : Math.abs(numberOf(value) ?? 0),
  int: (value, call) => toNumber(value, call, toInteger),
  float: (value, call) => {
    const number = toFloat(value);
    if (number !== null && !Number.isNaN(number)) return new Float(number);
    return argument(call, 0, 'default') ?? new Float(0);
  },
  join: (value, call) => {
    const name = argument(call, 1, 'attribute');
    const items = itemsOf(value).map((one) => (name === undefined ? one : attribute(one, name)));
    return items.map(str).join(str(argument(call, 0, 'd') ?? ''));
  },
  default: (value, call) =>
    isTrue(argument(call, 1, 'boolean') ?? false) && !isTrue(value)
      ? (argument(call, 0, 'default_value') ?? '')
      : value,
  map: (value, call) => {
    const name = call.named.get('attribute');
    if (name !== undefined) return itemsOf(value).map((one) => attribute(one, name));
    const [filter, ...positional] = call.positional;
    if (typeof filter !== 'string')
      throw new TemplateProblem('map needs an attribute or the name of a filter');
    return itemsOf(value).map((one) => applyFilter(one, filter, { positional, named: new Map() }));
  },
  items: (value) => callMethod(value, 'items', { positional: [], named: new Map() }),
  regex_replace: (value, call) => {
    const [pattern, replacement] = [argument(call, 0, 'pattern'), argument(call, 1, 'repl')];
    const count = argument(call, 2, 'count') ?? 0;
    if (typeof pattern !== 'string' || typeof replacement !== 'string' || typeof count !== 'number') {
      throw new TemplateProblem('regex_replace needs a pattern and a replacement');
    }
    try {
      return new PythonPattern(pattern).replace(str(value), replacement, count);
    } catch (error) {
      if (error instanceof PatternProblem) throw new TemplateProblem(`regex_replace: ${error.message}`);
      throw error;
    }
  },
};

function item(items: readonly PythonValue[], index: number): PythonValue {
  const found = items.at(index);
  if (found === undefined) throw new TemplateProblem('a list is empty');
  return found;
}

/** Names of filters that accept an undefined value. */
export const DEFAULTS: ReadonlySet<string> = new Set(['default', 'd']);

/** @throws TemplateProblem for a filter that is not supported */
export function applyFilter(value: PythonValue, name: string, call: CallArguments): PythonValue {
  const filter = FILTERS[name === 'd' ? 'default' : name];
  if (filter === undefined || !Object.hasOwn(FILTERS, name === 'd' ? 'default' : name)) {
    throw new TemplateProblem(`the filter "${name}" is not supported`);
  }
  return filter(value, call);
}

const TESTS: Readonly<Record<string, (value: PythonValue) => boolean>> = {
  none: (value) => value === null,
  string: (value) => typeof value === 'string',
  number: (value) => numberOf(value) !== null,
  integer: (value) => typeof value === 'number',
  float: (value) => value instanceof Float,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  mapping: isDictionary,
  iterable: (value) => typeof value === 'string' || isList(value) || isDictionary(value),
  sequence: (value) => typeof value === 'string' || isList(value) || isDictionary(value),
  odd: (value) => Math.abs((numberOf(value) ?? 0) % 2) === 1,
  even: (value) => (numberOf(value) ?? 1) % 2 === 0,
  lower: (value) => hasCase(value) && isEqual(value, str(value).toLowerCase()),
  upper: (value) => hasCase(value) && isEqual(value, str(value).toUpperCase()),
};

function hasCase(value: PythonValue): boolean {
  return typeof value === 'string' && value.toLowerCase() !== value.toUpperCase();
}

/** @throws TemplateProblem for a test that is not supported */
export function runTest(value: PythonValue, name: string): boolean {
  if (!Object.hasOwn(TESTS, name)) throw new TemplateProblem(`the test "${name}" is not supported`);
  return TESTS[name]!(value);
}
