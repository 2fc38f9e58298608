/** Types for what is used of @huggingface/jinja: its own declarations cannot be resolved from ES modules. */
import * as jinja from '@huggingface/jinja';

/** A value of the template language: `type` is "StringValue", "ArrayValue" and so on. */
export interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** A node of the syntax tree, with the parts that are read here. */
export interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly callee?: Node;
  readonly args?: readonly Node[];
  readonly object?: Node;
  readonly property?: Node;
  readonly computed?: boolean;
  readonly operand?: Node;
  readonly argument?: Node;
  readonly filter?: Node;
  /** Of a loop; `lhs` where it has a condition. */
  readonly iterable?: Node & { readonly lhs?: Node };
  readonly operator?: { readonly value: string };
  readonly left?: Node;
  readonly right?: Node;
}

export interface Environment {
  /** Declares a variable; it must be new. */
  set(name: string, value: unknown): Value;
}

interface InterpreterInstance {
  run(program: Node): Value;
  evaluate(node: Node | undefined, environment: Environment): Value;
}

interface Package {
  readonly Environment: new () => Environment;
  readonly Interpreter: new (environment: Environment) => InterpreterInstance;
  tokenize(source: string, options: { trim_blocks: boolean; lstrip_blocks: boolean }): unknown[];
  parse(tokens: unknown[]): Node;
}

export const { Environment, Interpreter, parse, tokenize } = jinja as unknown as Package;
