/**
 * Renders the Jinja templates of task files as lm-evaluation-harness does: undefined names are errors, and a line break
 * at the end stays. The package @huggingface/jinja parses a template. Its interpreter is not used, because it prints
 * values like JavaScript, and the texts that a model reads would differ from Python's.
 */
import { Float, isList, isTrue, type PythonValue, repr, str, ValueProblem } from '../python/values.ts';
import { constant, described, member, range, sliced } from './access.ts';
import { applyFilter, DEFAULTS, itemsOf, runTest } from './filters.ts';
import { type CallArguments, callMethod } from './methods.ts';
import { binary } from './operators.ts';
import { TemplateProblem } from './problem.ts';
import {
  type Argument,
  type Call,
  type Expression,
  parseTemplate,
  type Slice,
  type Statement,
} from './syntax.ts';

/** Maximum number of syntax nodes that one rendering evaluates. */
const MAX_STEPS = 1_000_000;
/** Maximum length of a rendered text, in characters. */
const MAX_CHARACTERS = 16 * 1024 * 1024;

type Names = Readonly<Record<string, PythonValue>>;

/** A compiled template. */
export class Template {
  readonly #program: readonly Statement[];

  /** @throws TemplateProblem */
  constructor(source: string) {
    this.#program = parseTemplate(source);
  }

  /** Renders the template for a document. @throws TemplateProblem */
  render(document: Names): string {
    try {
      return new Rendering().block(this.#program, new Scope(new Map(Object.entries(document)), null));
    } catch (error) {
      // JavaScript throws a RangeError for a text or list that is too long, and for a stack that is too deep.
      if (error instanceof RangeError || error instanceof ValueProblem)
        throw new TemplateProblem(`a value is too large: ${error.message}`);
      throw error;
    }
  }
}

class Scope {
  readonly #names: Map<string, PythonValue>;
  readonly #outer: Scope | null;

  constructor(names: Map<string, PythonValue>, outer: Scope | null) {
    this.#names = names;
    this.#outer = outer;
  }

  get(name: string): PythonValue | undefined {
    return this.#names.has(name) ? this.#names.get(name) : this.#outer?.get(name);
  }

  set(name: string, value: PythonValue): void {
    this.#names.set(name, value);
  }
}

class Rendering {
  #steps = 0;

  block(statements: readonly Statement[], scope: Scope): string {
    let text = '';
    for (const statement of statements) {
      text += this.#statement(statement, scope);
      if (text.length > MAX_CHARACTERS)
        throw new TemplateProblem(`it made more than ${MAX_CHARACTERS} characters`);
    }
    return text;
  }

  #statement(statement: Statement, scope: Scope): string {
    switch (statement.type) {
      case 'Comment':
        return '';
      case 'If':
        return this.block(
          isTrue(this.#value(statement.test, scope)) ? statement.body : statement.alternate,
          scope,
        );
      case 'For':
        return this.#loop(statement, scope);
      case 'Set': {
        const value = statement.value
          ? this.#value(statement.value, scope)
          : this.block(statement.body, scope);
        this.#assign(statement.assignee, value, scope);
        return '';
      }
      default:
        return str(this.#value(statement, scope));
    }
  }

  #loop(loop: Extract<Statement, { type: 'For' }>, scope: Scope): string {
    const select = loop.iterable.type === 'SelectExpression' ? loop.iterable : null;
    let items = itemsOf(this.#value(select?.lhs ?? loop.iterable, scope));
    if (select !== null) {
      items = items.filter((item) => {
        const inner = new Scope(new Map(), scope);
        this.#assign(loop.loopvar, item, inner);
        return isTrue(this.#value(select.test, inner));
      });
    }
    if (items.length === 0) return this.block(loop.defaultBlock, scope);
    return items
      .map((item, i) => {
        const inner = new Scope(new Map(), scope);
        this.#assign(loop.loopvar, item, inner);
        inner.set('loop', {
          index: i + 1,
          index0: i,
          revindex: items.length - i,
          revindex0: items.length - i - 1,
          first: i === 0,
          last: i === items.length - 1,
          length: items.length,
        });
        return this.block(loop.body, inner);
      })
      .join('');
  }

  #assign(target: Expression, value: PythonValue, scope: Scope): void {
    if (target.type === 'Identifier') {
      scope.set(target.value, value);
      return;
    }
    if (target.type !== 'TupleLiteral') throw new TemplateProblem('only names can be assigned');
    const items = itemsOf(value);
    if (items.length !== target.value.length) {
      throw new TemplateProblem(`${items.length} values cannot be assigned to ${target.value.length} names`);
    }
    for (const [i, name] of target.value.entries()) this.#assign(name, items[i]!, scope);
  }

  /** Returns the value of an expression. @throws TemplateProblem if it is undefined */
  #value(expression: Expression, scope: Scope): PythonValue {
    const value = this.#evaluate(expression, scope);
    if (value === undefined) throw new TemplateProblem(`${described(expression)} is undefined`);
    return value;
  }

  /**
   * Returns the value of an expression; undefined for a name, key or position that does not exist. Limits the size of
   * values, because a loop can double a text with every step.
   */
  #evaluate(expression: Expression, scope: Scope): PythonValue | undefined {
    const value = this.#evaluateUnlimited(expression, scope);
    const isLarge = (typeof value === 'string' || isList(value)) && value.length > MAX_CHARACTERS;
    if (isLarge) throw new TemplateProblem(`a value has more than ${MAX_CHARACTERS} characters or items`);
    return value;
  }

  #evaluateUnlimited(expression: Expression, scope: Scope): PythonValue | undefined {
    if (++this.#steps > MAX_STEPS) throw new TemplateProblem(`it took more than ${MAX_STEPS} steps`);
    switch (expression.type) {
      case 'StringLiteral':
      case 'IntegerLiteral':
        return expression.value;
      case 'FloatLiteral':
        return new Float(expression.value);
      case 'ArrayLiteral':
      case 'TupleLiteral':
        return expression.value.map((item) => this.#value(item, scope));
      case 'ObjectLiteral':
        return Object.fromEntries(
          Array.from(expression.value, ([key, item]) => [
            str(this.#value(key, scope)),
            this.#value(item, scope),
          ]),
        );
      case 'Identifier': {
        const value = scope.get(expression.value);
        return value === undefined ? constant(expression.value) : value;
      }
      case 'MemberExpression': {
        const object = this.#value(expression.object, scope);
        const { property, computed } = expression;
        if (property.type === 'SliceExpression') return this.#slice(object, property, scope);
        if (computed) return member(object, this.#value(property, scope));
        return member(object, property.type === 'Identifier' ? property.value : this.#value(property, scope));
      }
      case 'CallExpression':
        return this.#call(expression, scope);
      case 'FilterExpression':
        return this.#filter(expression, scope);
      case 'TestExpression': {
        const value = this.#evaluate(expression.operand, scope);
        const name = expression.test.value;
        const holds =
          name === 'defined' || name === 'undefined'
            ? (value !== undefined) === (name === 'defined')
            : runTest(value ?? this.#value(expression.operand, scope), name);
        return holds !== expression.negate;
      }
      case 'UnaryExpression': {
        const value = this.#value(expression.argument, scope);
        const operator = expression.operator.value;
        return operator === 'not' ? !isTrue(value) : binary(operator, 0, value);
      }
      case 'BinaryExpression': {
        const left = this.#value(expression.left, scope);
        const operator = expression.operator.value;
        if (operator === 'and') return isTrue(left) ? this.#value(expression.right, scope) : left;
        if (operator === 'or') return isTrue(left) ? left : this.#value(expression.right, scope);
        return binary(operator, left, this.#value(expression.right, scope));
      }
      case 'Ternary':
        return this.#evaluate(
          isTrue(this.#value(expression.condition, scope)) ? expression.trueExpr : expression.falseExpr,
          scope,
        );
      case 'SelectExpression':
        // `{{ a if b }}` without `else` is undefined if b is false. lm-evaluation-harness refuses undefined values.
        return isTrue(this.#value(expression.test, scope))
          ? this.#evaluate(expression.lhs, scope)
          : undefined;
      default:
        throw new TemplateProblem(`${(expression as { type: string }).type} is not supported`);
    }
  }

  #filter(expression: Extract<Expression, { type: 'FilterExpression' }>, scope: Scope): PythonValue {
    const { filter, operand } = expression;
    const name = filter.type === 'Identifier' ? filter.value : (filter.callee as { value: string }).value;
    const call = this.#arguments(filter.type === 'Identifier' ? [] : filter.args, scope);
    const value = this.#evaluate(operand, scope);
    if (value === undefined && DEFAULTS.has(name)) {
      return call.positional[0] ?? call.named.get('default_value') ?? '';
    }
    return applyFilter(value ?? this.#value(operand, scope), name, call);
  }

  #call({ callee, args }: Call, scope: Scope): PythonValue {
    const call = this.#arguments(args, scope);
    if (callee.type === 'Identifier' && callee.value === 'range') return range(call.positional);
    if (callee.type === 'MemberExpression' && !callee.computed && callee.property.type === 'Identifier') {
      return callMethod(this.#value(callee.object, scope), callee.property.value, call);
    }
    throw new TemplateProblem(`the call of ${described(callee)} is not supported`);
  }

  #arguments(args: readonly Argument[], scope: Scope): CallArguments {
    const positional: PythonValue[] = [];
    const named = new Map<string, PythonValue>();
    for (const argument of args) {
      if (argument.type === 'KeywordArgumentExpression') {
        named.set(argument.key.value, this.#value(argument.value, scope));
      } else positional.push(this.#value(argument, scope));
    }
    return { positional, named };
  }

  #slice(object: PythonValue, { start, stop, step }: Slice, scope: Scope): PythonValue {
    if (typeof object !== 'string' && !isList(object))
      throw new TemplateProblem(`${repr(object)} has no slices`);
    const [from, to, by] = [start, stop, step].map((part) => {
      const value = part === undefined ? null : this.#value(part, scope);
      if (value !== null && typeof value !== 'number')
        throw new TemplateProblem('a slice needs whole numbers');
      return value;
    });
    const items = sliced([...object], from ?? null, to ?? null, by ?? 1);
    return typeof object === 'string' ? items.join('') : items;
  }
}
