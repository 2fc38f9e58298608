/** Functions that evaluate parts of template expressions: constants, Python's items and slices, and `range`. */
import { codePoints } from '../python/text.ts';
import { isDictionary, isList, type PythonValue, str } from '../python/values.ts';
import { TemplateProblem } from './problem.ts';
import type { Expression } from './syntax.ts';

/** Maximum length of a list that `range` makes. */
const MAX_RANGE = 10_000;
const CONSTANTS: Readonly<Record<string, PythonValue>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};

/** Returns the value of a constant that every template can use, such as `true`; undefined for all other names. */
export function constant(name: string): PythonValue | undefined {
  return Object.hasOwn(CONSTANTS, name) ? CONSTANTS[name] : undefined;
}

/** Returns an item by key or position; undefined if it does not exist. */
export function member(object: PythonValue, key: PythonValue): PythonValue | undefined {
  if (isDictionary(object)) return Object.hasOwn(object, str(key)) ? object[str(key)] : undefined;
  const index = typeof key === 'boolean' ? Number(key) : key;
  if (typeof index !== 'number') return undefined;
  if (isList(object)) return object.at(index);
  if (typeof object !== 'string') return undefined;
  return codePoints(object) === object.length ? object.at(index) : [...object].at(index);
}

/** Python's `items[start:stop:step]`. */
export function sliced<T>(items: readonly T[], start: number | null, stop: number | null, step: number): T[] {
  if (step === 0) throw new TemplateProblem('the step of a slice is 0');
  const size = items.length;
  const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
  const bound = (value: number | null, missing: number) =>
    value === null ? missing : Math.min(Math.max(value < 0 ? value + size : value, low), high);
  const [from, to] =
    step > 0 ? [bound(start, 0), bound(stop, size)] : [bound(start, size - 1), bound(stop, -1)];
  const result: T[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) result.push(items[i]!);
  return result;
}

/** Python's `range` as a list. */
export function range(args: readonly PythonValue[]): number[] {
  if (args.length === 0 || args.some((value) => typeof value !== 'number')) {
    throw new TemplateProblem('range() needs whole numbers');
  }
  const [first, second, step = 1] = args as readonly number[];
  const [start, stop] = second === undefined ? [0, first!] : [first!, second];
  const length = step === 0 ? Number.NaN : Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE))
    throw new TemplateProblem(`range() of ${length} numbers; the limit is ${MAX_RANGE}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/** Describes an expression for an error message. */
export function described(expression: Expression): string {
  if (expression.type === 'Identifier') return `"${expression.value}"`;
  if (expression.type !== 'MemberExpression') return 'a value';
  const { object, property } = expression;
  return property.type === 'Identifier' && !expression.computed
    ? `"${property.value}" of ${described(object)}`
    : `an item of ${described(object)}`;
}
