/**
 * The imports, exports and global names of a TypeScript module, read from its syntax tree. (The compiler of TypeScript 7
 * is a program without a parser for JavaScript, so this uses the parser of vitest.)
 */
import { parseAst } from 'vitest/node';

export interface Node {
  readonly type: string;
  /** Offset of the first character. */
  readonly start: number;
  readonly [key: string]: unknown;
}

/** An import, a re-export, an import of a type or a call of `require`. */
export interface Import {
  /** The module as written; null: computed when the program runs. */
  readonly target: string | null;
  /** Offset of the target. */
  readonly start: number;
  /** The exports taken from the module. `*`: all of them, or those that the code chooses later. */
  readonly names: readonly string[];
}

/** A use of a name that the module may not have declared itself. */
export interface Reference {
  readonly name: string;
  readonly start: number;
  /** The node around the name. */
  readonly parent: Node;
}

/** @throws an error with the file and the line for text that is not TypeScript */
export function parseModule({ path, text }: { path: string; text: string }): Node {
  try {
    return parseAst(text, { lang: 'ts' }) as unknown as Node;
  } catch (cause) {
    throw new Error(`${path}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** Returns the imports of a module in the order of the text. */
export function importsOf(program: Node): Import[] {
  const found: Import[] = [];
  walk(program, (node, ancestors) => {
    const names = namesTakenBy(node, ancestors);
    if (names === null) return;
    const source = sourceOf(node);
    found.push({ target: textOf(source), start: (source ?? node).start, names });
  });
  return found;
}

/** Returns the names that a module exports, with the offset of each. Names of `export * from …` are left out. */
export function exportsOf(program: Node): Map<string, number> {
  const names = new Map<string, number>();
  walk(program, (node) => {
    if (node.type === 'ExportAllDeclaration' && node.exported) {
      names.set(nameOf(node.exported as Node), node.start);
    }
    if (node.type !== 'ExportNamedDeclaration') return;
    for (const specifier of node.specifiers as Node[]) {
      names.set(nameOf(specifier.exported as Node), specifier.start);
    }
    const declaration = node.declaration as Node | null;
    if (declaration === null) return;
    const declared = (declaration.declarations as Node[] | undefined) ?? [declaration];
    for (const { id } of declared) for (const name of boundBy(id as Node)) names.set(name, node.start);
  });
  return names;
}

/** Returns the uses of names as values. Types, and the keys of objects and classes, are left out. */
export function referencesOf(program: Node): Reference[] {
  const found: Reference[] = [];
  walk(program, (node, ancestors) => {
    const parent = ancestors.at(-1);
    if (node.type !== 'Identifier' || parent === undefined) return;
    if (isKey(node, parent) || isInType(ancestors)) return;
    found.push({ name: node.name as string, start: node.start, parent });
  });
  return found;
}

/** Returns the names that variables, parameters, functions and imports of the module declare, at any depth. */
export function declaredNames(program: Node): Set<string> {
  const names = new Set<string>();
  const add = (pattern: unknown): void => {
    for (const name of boundBy(pattern as Node | null)) names.add(name);
  };
  walk(program, (node) => {
    if (node.type === 'VariableDeclarator' || /^(Function|Class|TSEnum)/.test(node.type)) add(node.id);
    if (Array.isArray(node.params)) for (const parameter of node.params as Node[]) add(parameter);
    if (/^Import.*Specifier$/.test(node.type)) add(node.local);
  });
  return names;
}

/** Visits all nodes, each with its ancestors, the nearest last. The list of ancestors is valid during the visit only. */
function walk(
  node: Node,
  visit: (node: Node, ancestors: readonly Node[]) => void,
  ancestors: Node[] = [],
): void {
  visit(node, ancestors);
  ancestors.push(node);
  for (const key in node) {
    const value = node[key];
    if (typeof value !== 'object' || value === null) continue;
    if (!Array.isArray(value)) {
      if ('type' in value) walk(value as Node, visit, ancestors);
      continue;
    }
    for (const child of value as (Node | null)[])
      if (child?.type !== undefined) walk(child, visit, ancestors);
  }
  ancestors.pop();
}

/** Returns the exports that an import takes; null if the node is not an import. */
function namesTakenBy(node: Node, ancestors: readonly Node[]): string[] | null {
  switch (node.type) {
    case 'ImportDeclaration':
      return (node.specifiers as Node[]).map((specifier) => {
        if (specifier.type === 'ImportDefaultSpecifier') return 'default';
        return specifier.type === 'ImportNamespaceSpecifier' ? '*' : nameOf(specifier.imported as Node);
      });
    case 'ExportNamedDeclaration':
      if (!node.source) return null;
      return (node.specifiers as Node[]).map(({ local }) => nameOf(local as Node));
    case 'TSImportType': {
      let qualifier = node.qualifier as Node | null;
      while (qualifier?.type === 'TSQualifiedName') qualifier = qualifier.left as Node;
      return [qualifier === null ? '*' : nameOf(qualifier)];
    }
    case 'ImportExpression':
      return namesUsedBy(node, ancestors);
    case 'ExportAllDeclaration':
    case 'TSExternalModuleReference':
      return ['*'];
    case 'CallExpression':
      return isRequire(node.callee as Node) ? ['*'] : null;
    default:
      return null;
  }
}

/** Returns the exports that the code around `import(…)` takes. */
function namesUsedBy(node: Node, ancestors: readonly Node[]): string[] {
  let [at, ...around] = ancestors.toReversed() as [Node, ...Node[]];
  let from = node;
  let index: number | null = null;
  // await Promise.all([import(…), import(…)])
  if (at.type === 'ArrayExpression') {
    index = (at.elements as Node[]).indexOf(node);
    [from, at, ...around] = around as [Node, Node, ...Node[]];
  }
  if (at?.type !== 'AwaitExpression' || at.argument !== from) return ['*'];
  const [user] = around;
  if (user?.type === 'ExpressionStatement') return [];
  if (index === null && user?.type === 'MemberExpression' && !user.computed) {
    return [nameOf(user.property as Node)];
  }
  if (user?.type !== 'VariableDeclarator') return ['*'];
  const id = user.id as Node;
  const pattern =
    index === null ? id : id.type === 'ArrayPattern' ? (id.elements as (Node | null)[])[index] : undefined;
  if (pattern?.type !== 'ObjectPattern') return ['*'];
  return (pattern.properties as Node[]).map((property) =>
    property.type === 'Property' && !property.computed ? nameOf(property.key as Node) : '*',
  );
}

/** Returns whether a callee is `require`, `createRequire(…)`, or `resolve` of one of them. */
function isRequire(callee: Node): boolean {
  if (callee.type === 'MemberExpression') {
    return nameOf(callee.property as Node) === 'resolve' && isRequire(callee.object as Node);
  }
  if (callee.type === 'CallExpression') return nameOf(callee.callee as Node) === 'createRequire';
  return callee.type === 'Identifier' && callee.name === 'require';
}

function sourceOf(node: Node): Node | undefined {
  if (node.type === 'CallExpression') return (node.arguments as Node[])[0];
  return (node.source ?? node.expression) as Node | undefined;
}

/** Returns the value of a literal, or of a template without expressions. */
function textOf(node: Node | undefined): string | null {
  if (node?.type === 'TemplateLiteral' && (node.expressions as Node[]).length === 0) {
    return ((node.quasis as Node[])[0]!.value as { cooked: string }).cooked;
  }
  return node?.type === 'Literal' && typeof node.value === 'string' ? node.value : null;
}

/** The name of an identifier, or the text of a string that is used as a name. */
export function nameOf(node: Node): string {
  return String(node.name ?? node.value ?? '');
}

/** Returns the names that a pattern declares. */
function boundBy(pattern: Node | null): string[] {
  switch (pattern?.type) {
    case 'Identifier':
      return [pattern.name as string];
    case 'ObjectPattern':
      return (pattern.properties as Node[]).flatMap((property) =>
        boundBy((property.value ?? property.argument) as Node),
      );
    case 'ArrayPattern':
      return (pattern.elements as (Node | null)[]).flatMap(boundBy);
    case 'AssignmentPattern':
      return boundBy(pattern.left as Node);
    case 'RestElement':
      return boundBy(pattern.argument as Node);
    case 'TSParameterProperty':
      return boundBy(pattern.parameter as Node);
    default:
      return [];
  }
}

function isKey(node: Node, parent: Node): boolean {
  if (parent.computed === true) return false;
  if (parent.type === 'MemberExpression') return parent.property === node;
  return parent.key === node;
}

/** Matches nodes that contain only types. Other nodes whose names begin with TS contain expressions too. */
const TYPES = /^TS(?!As|Satisfies|NonNull|TypeAssertion|Instantiation|ParameterProperty|Enum|Export)/;

function isInType(ancestors: readonly Node[]): boolean {
  return ancestors.some(({ type }) => TYPES.test(type));
}
