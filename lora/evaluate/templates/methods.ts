/** The methods of Python's texts, lists and dictionaries that templates may call. */
import { splitWords, strip, stripEnd, stripStart } from '../python/text.ts';
import { isEqual, isTrue, type PythonValue, str } from '../python/values.ts';
import { TemplateProblem } from './problem.ts';

/** Arguments of a call. */
export interface CallArguments {
  readonly positional: readonly PythonValue[];
  readonly named: ReadonlyMap<string, PythonValue>;
}

/** Maximum width of `zfill`, in characters. Texts that the operator `*` makes have the same limit. */
const MAX_WIDTH = 1_000_000;

type Method<T> = (on: T, args: readonly PythonValue[], call: CallArguments) => PythonValue;
type Dictionary = { readonly [key: string]: PythonValue };

function text(value: PythonValue | undefined): string {
  if (typeof value === 'string') return value;
  throw new TemplateProblem('a text is expected as an argument');
}

function whole(value: PythonValue | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value === 'number') return value;
  throw new TemplateProblem('a whole number is expected as an argument');
}

function affixes(value: PythonValue | undefined): readonly string[] {
  return Array.isArray(value) ? value.map(text) : [text(value as PythonValue)];
}

function trimmed(
  value: string,
  characters: PythonValue | undefined,
  plain: (text: string) => string,
  sides: { readonly start: boolean; readonly end: boolean },
): string {
  if (characters === undefined || characters === null) return plain(value);
  const gone = new Set(text(characters));
  const all = [...value];
  let [start, end] = [0, all.length];
  while (sides.start && start < end && gone.has(all[start]!)) start++;
  while (sides.end && end > start && gone.has(all[end - 1]!)) end--;
  return all.slice(start, end).join('');
}

function split(value: string, [separator = null, count]: readonly PythonValue[], fromEnd: boolean): string[] {
  const limit = whole(count, -1);
  if (separator === null) {
    if (limit >= 0) throw new TemplateProblem('split() with a limit needs a separator');
    return splitWords(value);
  }
  if (separator === '') throw new TemplateProblem('the separator of split() is empty');
  const parts = value.split(text(separator));
  if (limit < 0 || parts.length <= limit + 1) return parts;
  const joined = text(separator);
  return fromEnd
    ? [parts.slice(0, parts.length - limit).join(joined), ...parts.slice(parts.length - limit)]
    : [...parts.slice(0, limit), parts.slice(limit).join(joined)];
}

function replaced(value: string, from: string, to: string, count: number): string {
  if (count < 0) return from === '' ? emptyReplaced(value, to) : value.replaceAll(from, () => to);
  if (from === '') throw new TemplateProblem('replace() of an empty text with a limit is not supported');
  const parts = value.split(from);
  const head = parts.slice(0, count + 1).join(to);
  return [head, ...parts.slice(count + 1)].join(from);
}

function emptyReplaced(value: string, to: string): string {
  return `${to}${[...value].map((character) => character + to).join('')}`;
}

/** Python's `str.find` and `str.rfind`: returns the position of `part` in code points, or −1. */
function find(value: string, part: string, last: boolean): number {
  const index = last ? value.lastIndexOf(part) : value.indexOf(part);
  return index < 0 ? -1 : [...value.slice(0, index)].length;
}

/** Python's `str.capitalize`: makes the first character upper case, and the others lower case. */
export function capitalised(value: string): string {
  const [first = '', ...rest] = value;
  return first.toUpperCase() + rest.join('').toLowerCase();
}

/**
 * Python's `str.title`: makes the first letter of each run of letters upper case, and the others lower case.
 */
export function titled(value: string): string {
  return value.replace(/\p{L}+/gu, capitalised);
}

function zeroFilled(value: string, width: number): string {
  if (width > MAX_WIDTH) throw new TemplateProblem(`zfill(${width}): the limit is ${MAX_WIDTH}`);
  const sign = /^[+-]/.exec(value)?.[0] ?? '';
  return sign + value.slice(sign.length).padStart(width - sign.length, '0');
}

const TEXT_METHODS: Readonly<Record<string, Method<string>>> = {
  strip: (on, [characters]) => trimmed(on, characters, strip, { start: true, end: true }),
  lstrip: (on, [characters]) => trimmed(on, characters, stripStart, { start: true, end: false }),
  rstrip: (on, [characters]) => trimmed(on, characters, stripEnd, { start: false, end: true }),
  upper: (on) => on.toUpperCase(),
  lower: (on) => on.toLowerCase(),
  capitalize: (on) => capitalised(on),
  title: (on) => titled(on),
  split: (on, args) => split(on, args, false),
  rsplit: (on, args) => split(on, args, true),
  replace: (on, [from, to, count]) => replaced(on, text(from), text(to), whole(count, -1)),
  startswith: (on, [prefix]) => affixes(prefix).some((start) => on.startsWith(start)),
  endswith: (on, [suffix]) => affixes(suffix).some((end) => on.endsWith(end)),
  removeprefix: (on, [prefix]) => (on.startsWith(text(prefix)) ? on.slice(text(prefix).length) : on),
  removesuffix: (on, [suffix]) =>
    text(suffix) !== '' && on.endsWith(text(suffix)) ? on.slice(0, -text(suffix).length) : on,
  find: (on, [part]) => find(on, text(part), false),
  rfind: (on, [part]) => find(on, text(part), true),
  index: (on, [part]) => {
    const at = find(on, text(part), false);
    if (at < 0) throw new TemplateProblem(`index() did not find ${JSON.stringify(part)}`);
    return at;
  },
  count: (on, [part]) => on.split(text(part)).length - 1,
  join: (on, [parts]) => {
    if (!Array.isArray(parts)) throw new TemplateProblem('join() needs a list of texts');
    return parts.map(text).join(on);
  },
  isdigit: (on) => /^\p{Nd}+$/u.test(on),
  isalpha: (on) => /^\p{L}+$/u.test(on),
  isupper: (on) => on !== on.toLowerCase() && on === on.toUpperCase(),
  islower: (on) => on !== on.toUpperCase() && on === on.toLowerCase(),
  zfill: (on, [width]) => zeroFilled(on, whole(width, 0)),
  format: (on, args, call) => formatted(on, args, call),
};

const LIST_METHODS: Readonly<Record<string, Method<readonly PythonValue[]>>> = {
  index: (on, [item]) => {
    const at = on.findIndex((other) => isEqual(other, item!));
    if (at < 0) throw new TemplateProblem(`index() did not find ${str(item!)}`);
    return at;
  },
  count: (on, [item]) => on.filter((other) => isEqual(other, item!)).length,
};

const DICTIONARY_METHODS: Readonly<Record<string, Method<Dictionary>>> = {
  get: (on, [key, fallback = null]) => (Object.hasOwn(on, text(key)) ? on[text(key)]! : fallback),
  keys: (on) => Object.keys(on),
  values: (on) => Object.values(on),
  items: (on) => Object.entries(on),
};

/** Python's `str.format`: replaces `{}`, `{0}` and `{name}` by arguments. Format specifications are not supported. */
function formatted(on: string, args: readonly PythonValue[], { named }: CallArguments): string {
  let next = 0;
  return on.replace(/\{\{|\}\}|\{([^{}]*)\}/g, (all, field: string | undefined) => {
    if (field === undefined) return all[0]!;
    const value = field === '' ? args[next++] : /^\d+$/.test(field) ? args[Number(field)] : named.get(field);
    if (value === undefined) throw new TemplateProblem(`format() cannot fill ${all}`);
    return str(value);
  });
}

/** Calls a method. @throws TemplateProblem for a method that is not supported */
export function callMethod(on: PythonValue, name: string, call: CallArguments): PythonValue {
  if (call.named.size > 0 && name !== 'format') {
    throw new TemplateProblem(`${name}() takes no named arguments here`);
  }
  const { positional } = call;
  if (typeof on === 'string' && Object.hasOwn(TEXT_METHODS, name)) {
    return TEXT_METHODS[name]!(on, positional, call);
  }
  if (Array.isArray(on) && Object.hasOwn(LIST_METHODS, name))
    return LIST_METHODS[name]!(on, positional, call);
  if (
    typeof on === 'object' &&
    on !== null &&
    !Array.isArray(on) &&
    Object.hasOwn(DICTIONARY_METHODS, name)
  ) {
    return DICTIONARY_METHODS[name]!(on as Dictionary, positional, call);
  }
  throw new TemplateProblem(`the method ${name}() is not supported${isTrue(on) ? '' : ' on an empty value'}`);
}
