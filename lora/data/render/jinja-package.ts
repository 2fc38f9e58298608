/**
 * Types for the parts of @huggingface/jinja that this folder uses. The type declarations of version 0.5.11 import
 * './ast' without an extension, which TypeScript cannot resolve in ES modules. This file can be deleted once a release
 * imports with extensions.
 */
import * as jinja from '@huggingface/jinja';

/** A value of the template language: `type` is "StringValue", "ArrayValue" and so on. */
export interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** A node of a template's syntax tree, with the properties that this program reads. */
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
  /** The expression that a loop iterates over. `lhs` exists if the loop has a condition. */
  readonly iterable?: Node & { readonly lhs?: Node };
  readonly operator?: { readonly value: string };
  readonly left?: Node;
  readonly right?: Node;
}

export interface Environment {
  /** Declares a variable, which must not exist yet. */
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
