/**
 * The interpreter of @huggingface/jinja 0.5 where it differs from Python in ways that change what a model reads:
 * `strip` with characters (Qwen 3 strips newlines alone) and its idea of a blank, and `==` between types.
 */
import { type Environment, Interpreter, type Node, type Value } from './jinja-package.ts';
import { templateLimit } from './template-limit.ts';

/** Steps of one rendering: a conversation of a thousand turns takes less than a tenth of this, which takes seconds. */
const MAX_STEPS = 5_000_000;
/** What the interpreter does for each item of a loop, in steps that take as long. */
const STEPS_PER_ITEM = 4;

type Sides = 'strip' | 'lstrip' | 'rstrip';

/** Ends by itself after MAX_STEPS, whoever waits for it. */
export class PythonInterpreter extends Interpreter {
  #steps = 0;
  /** What loops go over: each item costs steps even where the loop does nothing with it. */
  readonly #loops = new WeakSet<Node>();

  /** @throws TEMPLATE_LIMIT */
  override evaluate(node: Node | undefined, environment: Environment): Value {
    if (node?.type === 'For') this.#loops.add(node.iterable?.lhs ?? node.iterable!);
    const value = this.#evaluateLikePython(node, environment);
    this.#steps += 1 + work(value) + (this.#loops.has(node!) ? STEPS_PER_ITEM * lengthOf(value) : 0);
    if (this.#steps > MAX_STEPS) throw templateLimit(`more than ${MAX_STEPS} steps`);
    return value;
  }

  #evaluateLikePython(node: Node | undefined, environment: Environment): Value {
    switch (node?.type) {
      case 'CallExpression': {
        const { callee, args = [] } = node;
        const name = callee?.type === 'MemberExpression' && !callee.computed ? callee.property?.value : null;
        if (args.length > 1 || (name !== 'strip' && name !== 'lstrip' && name !== 'rstrip')) break;
        const text = this.evaluate(callee!.object, environment);
        const characters = args.length === 0 ? null : this.evaluate(args[0], environment).value;
        if (text.type !== 'StringValue') break;
        if (characters !== null && typeof characters !== 'string') break;
        return this.#stripped(text, name, characters);
      }
      case 'FilterExpression': {
        if (node.filter?.type !== 'Identifier' || node.filter.value !== 'trim') break;
        const text = this.evaluate(node.operand, environment);
        if (text.type === 'StringValue') return this.#stripped(text, 'strip', null);
        break;
      }
      case 'BinaryExpression': {
        const operator = node.operator?.value;
        if (operator !== '==' && operator !== '!=') break;
        const same = equal(this.evaluate(node.left, environment), this.evaluate(node.right, environment));
        return create(this.evaluate(A_BOOLEAN, environment), same === (operator === '=='));
      }
    }
    return super.evaluate(node, environment);
  }

  #stripped(text: Value, sides: Sides, characters: string | null): Value {
    return create(text, strip(String(text.value), sides, characters));
  }
}

/** What is done with a value without steps of its own: copied, compared, searched. */
function work(value: Value): number {
  return typeof value.value === 'string' ? value.value.length >> 6 : lengthOf(value) >> 3;
}

function lengthOf({ value }: Value): number {
  if (value instanceof Map) return value.size;
  return Array.isArray(value) ? value.length : 0;
}

/** `not ""`: the package has no boolean literals. */
const A_BOOLEAN: Node = {
  type: 'UnaryExpression',
  operator: { value: 'not' },
  argument: { type: 'StringLiteral', value: '' },
};

/** A value of the same type as another: the package exports no constructors. */
function create(like: Value, value: unknown): Value {
  return new (like.constructor as new (value: unknown) => Value)(value);
}

/** `str.isspace` of Python, character by character. */
const BLANKS = new Set(
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000',
);

/** `str.strip`, `lstrip` and `rstrip` of Python. */
function strip(text: string, sides: Sides, characters: string | null): string {
  const gone = characters === null ? BLANKS : new Set(characters);
  let [start, end] = [0, text.length];
  while (sides !== 'rstrip' && start < end) {
    const character = String.fromCodePoint(text.codePointAt(start)!);
    if (!gone.has(character)) break;
    start += character.length;
  }
  while (sides !== 'lstrip' && start < end) {
    const pair = text.codePointAt(Math.max(start, end - 2))! > 0xffff;
    const character = text.slice(end - (pair ? 2 : 1), end);
    if (!gone.has(character)) break;
    end -= character.length;
  }
  return text.slice(start, end);
}

const NUMBERS = ['IntegerValue', 'FloatValue', 'BooleanValue'];

/** `==` of Python: values of different types differ, except that booleans are numbers; lists and maps by content. */
function equal(a: Value, b: Value): boolean {
  if (NUMBERS.includes(a.type) && NUMBERS.includes(b.type)) return Number(a.value) === Number(b.value);
  const [left, right]: [unknown, unknown] = [a.value, b.value];
  if (Array.isArray(left) && Array.isArray(right)) {
    return (
      a.type === b.type && left.length === right.length && left.every((item, i) => equal(item, right[i]))
    );
  }
  if (a.type !== b.type) return false;
  if (left instanceof Map && right instanceof Map) {
    return (
      left.size === right.size &&
      [...left].every(([key, item]) => right.has(key) && equal(item, right.get(key)))
    );
  }
  return left === right;
}
