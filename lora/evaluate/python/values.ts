/**
 * Values of Python as templates and task files use them: None is null, `int` is a number, a list or tuple is an array, a
 * dictionary is an object. A `float` is a {@link Float}, because 2.0 and 2 are printed differently.
 */

/** Python's `float`. */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export type PythonValue =
  | null
  | boolean
  | number
  | string
  | Float
  | readonly PythonValue[]
  | { readonly [key: string]: PythonValue };

/** Converts a value of JSON or YAML. Numbers that are not whole become floats. Other objects become texts. */
export function fromJson(value: unknown): PythonValue {
  if (value === null || value === undefined) return null;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : new Float(value);
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(fromJson);
  if (typeof value !== 'object') return value as boolean | string;
  if (value instanceof Date) return value.toISOString();
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromJson(item)]));
}

/** Returns whether lists and objects are nested more than `most` deep. Visits level after level, so the stack stays short. */
export function isDeeperThan(value: unknown, most: number): boolean {
  let level = [value];
  for (let depth = 0; depth <= most; depth++) {
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
    if (level.length === 0) return false;
  }
  return true;
}

export function isList(value: unknown): value is readonly PythonValue[] {
  return Array.isArray(value);
}

export function isDictionary(value: unknown): value is { readonly [key: string]: PythonValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Float);
}

/** Returns the number of an `int`, `float` or `bool`; null for other values. */
export function numberOf(value: PythonValue): number | null {
  if (value instanceof Float) return value.value;
  return typeof value === 'number' || typeof value === 'boolean' ? Number(value) : null;
}

/** Python's `bool(value)`. */
export function isTrue(value: PythonValue): boolean {
  if (value instanceof Float) return value.value !== 0;
  if (isList(value)) return value.length > 0;
  return isDictionary(value) ? Object.keys(value).length > 0 : Boolean(value);
}

/** Thrown for a value that is too large to print or compare. */
export class ValueProblem extends Error {}

/**
 * Maximum number of values that one comparison, or the conversion of one value to text, visits. A list may hold another
 * list several times, so its text can be exponentially longer than the template that made it.
 */
const MAX_NODES = 1_000_000;
/** Maximum length of the text of a value, in UTF-16 units. A rendered template has the same limit. */
const MAX_TEXT = 16 * 1024 * 1024;
/** Maximum depth of nested lists and dictionaries. It is far below the depth that overflows the stack. */
const MAX_NESTING = 500;

/** Counts the visited parts and the written characters of one value, and throws if there are too many. */
class Budget {
  #nodes = 0;
  #characters = 0;

  /** @throws ValueProblem */
  visit(depth: number): void {
    if (++this.#nodes > MAX_NODES) throw new ValueProblem(`a value has more than ${MAX_NODES} parts`);
    if (depth > MAX_NESTING) throw new ValueProblem(`a value is nested more than ${MAX_NESTING} deep`);
  }

  /** @throws ValueProblem */
  write(text: string): string {
    this.#characters += text.length;
    if (this.#characters > MAX_TEXT) throw new ValueProblem(`a value has more than ${MAX_TEXT} characters`);
    return text;
  }
}

/** Python's `==`. @throws ValueProblem */
export function isEqual(a: PythonValue, b: PythonValue): boolean {
  return equal(a, b, new Budget(), 0);
}

function equal(a: PythonValue, b: PythonValue, budget: Budget, depth: number): boolean {
  budget.visit(depth);
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null || right !== null) return left === right;
  const same = (one: PythonValue, other: PythonValue) => equal(one, other, budget, depth + 1);
  if (isList(a)) return isList(b) && a.length === b.length && a.every((item, i) => same(item, b[i]!));
  if (!isDictionary(a)) return a === b;
  if (!isDictionary(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && same(a[key]!, b[key]!))
  );
}

/** Python's `str(value)`. @throws ValueProblem */
export function str(value: PythonValue): string {
  return typeof value === 'string' ? value : repr(value);
}

/** Python's `repr(value)`. @throws ValueProblem */
export function repr(value: PythonValue): string {
  return written(value, new Budget(), 0);
}

function written(value: PythonValue, budget: Budget, depth: number): string {
  budget.visit(depth);
  const inner = (item: PythonValue) => written(item, budget, depth + 1);
  if (isList(value)) return `[${value.map(inner).join(', ')}]`;
  if (!isDictionary(value)) return budget.write(scalarText(value));
  return `{${Object.entries(value)
    .map(([key, item]) => `${budget.write(quoted(key))}: ${inner(item)}`)
    .join(', ')}}`;
}

function scalarText(value: null | boolean | number | string | Float): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' ? quoted(value) : floatText(value.value);
}

/** Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent] = value.toExponential().split('e') as [string, string];
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  }
  const text = String(value);
  if (text.includes('e')) return value.toFixed(20).replace(/0+$/, '');
  return text.includes('.') ? text : `${text}.0`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Python's `repr` of a text. */
function quoted(text: string): string {
  // Return texts that need no escapes early. Most texts need none, and the loop below takes a long time for
  // millions of characters.
  if (!/['\\]|[^ -~]/.test(text)) return `'${text}'`;
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let result = '';
  for (const character of text) {
    if (character === quote) result += `\\${character}`;
    else result += ESCAPES[character] ?? (isPrintable(character) ? character : escaped(character));
  }
  return quote + result + quote;
}

function isPrintable(character: string): boolean {
  return character === ' ' || !/[\p{C}\p{Z}]/u.test(character);
}

function escaped(character: string): string {
  const code = character.codePointAt(0)!;
  const [letter, digits] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${code.toString(16).padStart(digits as number, '0')}`;
}
