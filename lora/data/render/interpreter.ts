/**
 * Corrects differences between @huggingface/jinja 0.5.11 and Python that change the text that a model reads:
 *
 * - `strip`, `lstrip` and `rstrip` ignore their argument. Qwen 3 calls `strip('\n')`, which must keep spaces.
 * - `strip` and `trim` use JavaScript's white space: they remove U+FEFF and keep U+0085 and U+001C to U+001F.
 * - `==` is JavaScript's: `1 == '1'` is true, and equal lists or maps are different.
 *
 * Once the package corrects all three differences, this file needs only the limit on steps.
 */
import { type Environment, Interpreter, type Node, type Value } from './jinja-package.ts';
import { templateLimit } from './template-limit.ts';

/**
 * Maximum number of steps per rendering. Five million steps take a few seconds. Rendering a thousand turns takes less
 * than 500,000 steps.
 */
const MAX_STEPS = 5_000_000;
/**
 * Number of steps counted for each item of a loop, because the interpreter takes about as long for an item as
 * for four steps.
 */
const STEPS_PER_ITEM = 4;

type Sides = 'strip' | 'lstrip' | 'rstrip';

/** Interprets a template as Python does, and stops after MAX_STEPS. */
export class PythonInterpreter extends Interpreter {
  #steps = 0;
  /**
   * Expressions whose values are the lists that loops iterate over. Each item of such a list counts as
   * STEPS_PER_ITEM steps, even if the body of the loop is empty.
   */
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

/**
 * Returns the extra steps to count for copying, comparing or searching a value. Without them, each of these operations
 * would count as one step, however large the value is.
 */
function work(value: Value): number {
  return typeof value.value === 'string' ? value.value.length >> 6 : lengthOf(value) >> 3;
}

function lengthOf({ value }: Value): number {
  if (value instanceof Map) return value.size;
  return Array.isArray(value) ? value.length : 0;
}

/**
 * The expression `not ""`, whose value is a boolean. The package has no boolean literal, so `create` needs
 * this value as an example of the type.
 */
const A_BOOLEAN: Node = {
  type: 'UnaryExpression',
  operator: { value: 'not' },
  argument: { type: 'StringLiteral', value: '' },
};

/**
 * Makes a template value of the same type as `like`. It uses the constructor of `like`, because the package does not
 * export its constructors.
 */
function create(like: Value, value: unknown): Value {
  return new (like.constructor as new (value: unknown) => Value)(value);
}

/** The characters for which Python's `str.isspace` is true. */
const WHITE_SPACE = new Set(
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000',
);

/** Python's `str.strip`, `lstrip` and `rstrip`. */
function strip(text: string, sides: Sides, characters: string | null): string {
  const gone = characters === null ? WHITE_SPACE : new Set(characters);
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

/**
 * Python's `==`. Values of different types are never equal, but a boolean equals the number 0 or 1. Lists and maps
 * are compared by content.
 */
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
