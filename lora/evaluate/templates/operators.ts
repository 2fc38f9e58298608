/** Python's operators on the values of templates. */
import {
  Float,
  isDictionary,
  isEqual,
  isList,
  numberOf,
  type PythonValue,
  repr,
  str,
} from '../python/values.ts';
import { TemplateProblem } from './problem.ts';

/** Maximum length of a text or list that `*` makes, and maximum number of repetitions, even of an empty value. */
const MAX_REPEATED = 1_000_000;

/** Computes `left operator right`, except for `and` and `or`. @throws TemplateProblem */
export function binary(operator: string, left: PythonValue, right: PythonValue): PythonValue {
  switch (operator) {
    case '==':
      return isEqual(left, right);
    case '!=':
      return !isEqual(left, right);
    case '~':
      return str(left) + str(right);
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
    case '<':
      return compare(left, right) < 0;
    case '>':
      return compare(left, right) > 0;
    case '<=':
      return compare(left, right) <= 0;
    case '>=':
      return compare(left, right) >= 0;
  }
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== null && b !== null) {
    return arithmetic(operator, a, b, left instanceof Float || right instanceof Float);
  }
  if (operator === '+' && typeof left === 'string' && typeof right === 'string') return left + right;
  if (operator === '+' && isList(left) && isList(right)) return [...left, ...right];
  if (operator === '*' && typeof right === 'number') return repeated(left, right);
  if (operator === '*' && typeof left === 'number') return repeated(right, left);
  throw new TemplateProblem(`${repr(left)} ${operator} ${repr(right)} cannot be computed`);
}

function arithmetic(operator: string, a: number, b: number, float: boolean): PythonValue {
  const wrap = (value: number): PythonValue => (float ? new Float(value) : value);
  if (b === 0 && ['/', '//', '%'].includes(operator)) throw new TemplateProblem('a division by zero');
  switch (operator) {
    case '+':
      return wrap(a + b);
    case '-':
      return wrap(a - b);
    case '*':
      return wrap(a * b);
    case '/':
      return new Float(a / b);
    case '//':
      return wrap(Math.floor(a / b));
    case '%':
      return wrap(a - b * Math.floor(a / b));
    case '**':
      return float || b < 0 ? new Float(a ** b) : a ** b;
    default:
      throw new TemplateProblem(`the operator ${operator} is not supported`);
  }
}

function repeated(value: PythonValue, times: number): PythonValue {
  if (typeof value !== 'string' && !isList(value)) {
    throw new TemplateProblem(`${repr(value)} cannot be repeated`);
  }
  const count = Math.max(0, times);
  if (!(Math.max(1, value.length) * count <= MAX_REPEATED))
    throw new TemplateProblem(`a value is repeated ${count} times`);
  if (typeof value === 'string') return value.repeat(count);
  return Array.from({ length: count }, () => value).flat();
}

function contains(container: PythonValue, value: PythonValue): boolean {
  if (isList(container)) return container.some((item) => isEqual(item, value));
  if (typeof container === 'string' && typeof value === 'string') return container.includes(value);
  if (isDictionary(container)) return typeof value === 'string' && Object.hasOwn(container, value);
  throw new TemplateProblem(`${repr(value)} in ${repr(container)} cannot be computed`);
}

function compare(left: PythonValue, right: PythonValue): number {
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== null && b !== null) return a - b;
  if (typeof left === 'string' && typeof right === 'string') return comparePoints(left, right);
  throw new TemplateProblem(`${repr(left)} and ${repr(right)} cannot be compared`);
}

/** Compares two texts by code points, as Python does. JavaScript's `<` would compare UTF-16 units. */
function comparePoints(left: string, right: string): number {
  const [a, b] = [[...left], [...right]];
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = a[i]!.codePointAt(0)! - b[i]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
