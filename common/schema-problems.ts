/**
 * Describes schema violations to the author of a job file or of options: the field, its value, and the allowed values.
 */
import { z } from 'zod';
import { commonError } from './common-errors.ts';
import { nearest } from './nearest.ts';

export interface Problem {
  /** Path of the field, joined by dots. It is empty if the problem is about the whole file. */
  field: string;
  text: string;
}

/** Maximum length of the part of a value that a message quotes, in characters. */
const SHOWN_CHARACTERS = 60;

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Describes the issues that `schema` found in `value`. */
export function specProblems(
  schema: z.ZodType,
  value: unknown,
  issues: readonly z.core.$ZodIssue[],
): Problem[] {
  // JSON Schema is the only form of a zod schema that shows all bounds of a field, not just the violated one.
  const root: JsonSchema = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return issues.flatMap((issue) => {
    const field = issue.path.join('.');
    const place = schemaAt(root, issue.path);
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey(root, issue.path, key));
    }
    const name = field || 'the specification';
    // Rules that this project adds to zod's rules have their own messages.
    if (issue.code === 'custom' || issue.code === 'invalid_format') {
      return [{ field, text: `${name} ${foundText(value, issue.path)}: it ${issue.message}` }];
    }
    const is = foundText(value, issue.path);
    const allowed = place === null ? '' : allowedBy(place);
    return [
      { field, text: `${name} ${is}${allowed === '' ? `: ${issue.message}` : `; it must be ${allowed}`}` },
    ];
  });
}

/**
 * Checks options that a program passes to the library. TypeScript checks them too, but not in a JavaScript program.
 * @throws SwarmError USAGE, which names each wrong option
 */
export function checkOptions(schema: z.ZodType, options: unknown): void {
  const result = schema.safeParse(options);
  if (result.success) return;
  const problems = specProblems(schema, options, result.error.issues);
  const { field } = problems[0]!;
  throw commonError(
    'USAGE',
    problems.map(({ text }) => text).join('; '),
    { field },
    { next: 'correct the options' },
  );
}

/**
 * Describes an unknown key, and suggests a similar key of its section, or else the keys of the same name in other
 * sections. All keys are written with their sections, because a user may set a key by its full name.
 */
function unknownKey(root: JsonSchema, section: readonly PropertyKey[], key: string): Problem {
  const full = (name: string): string => [...section, name].join('.');
  const known = keysOf(schemaAt(root, section));
  const similar = nearest(key, known);
  const meant = similar === null ? keysNamed(root, key) : [full(similar)];
  const hint =
    meant.length > 0
      ? `did you mean ${meant.map((name) => `"${name}"`).join(' or ')}?`
      : `the known keys are ${known.map(full).join(', ')}`;
  return { field: full(key), text: `"${full(key)}" is not a known key; ${hint}` };
}

/** Returns the full names of all keys with this name, in all sections of a schema. */
function keysNamed(schema: JsonSchema, wanted: string): string[] {
  return [schema, ...(schema.anyOf ?? [])].flatMap(({ properties = {} }) =>
    Object.entries(properties).flatMap(([name, inner]) => [
      ...(name === wanted ? [name] : []),
      ...(typeof inner === 'object' ? keysNamed(inner, wanted).map((rest) => `${name}.${rest}`) : []),
    ]),
  );
}

/** Describes the value that was found, such as "is 5", "is missing" or "is wrong". */
function foundText(value: unknown, path: readonly PropertyKey[]): string {
  const found = valueAt(value, path);
  if (found !== undefined) {
    const text = JSON.stringify(found) ?? String(found);
    return `is ${text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}`;
  }
  // The schema transforms some fields before it checks them, so the path of a problem may not exist in the given value.
  // A field is missing only if the object that should contain it was given.
  const place = valueAt(value, path.slice(0, -1));
  return typeof place === 'object' && place !== null ? 'is missing' : 'is wrong';
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at = value;
  for (const step of path) at = typeof at === 'object' && at !== null ? Reflect.get(at, step) : undefined;
  return at;
}

function schemaAt(schema: JsonSchema, [step, ...rest]: readonly PropertyKey[]): JsonSchema | null {
  if (step === undefined) return schema;
  for (const branch of [schema, ...(schema.anyOf ?? [])]) {
    const items = typeof step === 'number' ? (branch.prefixItems?.[step] ?? branch.items) : null;
    const inner = items ?? branch.properties?.[String(step)] ?? branch.additionalProperties;
    const found = typeof inner === 'object' && !Array.isArray(inner) ? schemaAt(inner, rest) : null;
    if (found !== null) return found;
  }
  return null;
}

/**
 * Returns the keys of a section. If the schema is a union, such as "a section or null", returns the keys of all
 * branches.
 */
function keysOf(schema: JsonSchema | null): string[] {
  const branches = [schema, ...(schema?.anyOf ?? [])];
  return branches.flatMap((branch) => Object.keys(branch?.properties ?? {}));
}

/** Describes the allowed values, such as "a whole number from 1 to 512". Returns "" if the schema does not say. */
function allowedBy(schema: JsonSchema): string {
  if (schema.description !== undefined) return schema.description;
  if (schema.anyOf || schema.enum || Array.isArray(schema.type))
    return either(choices(schema).map(allowedBy));
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case 'integer':
      return `a whole number${range(schema)}`;
    case 'number':
      return `a number${range(schema)}`;
    case 'string':
      return 'a string';
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    case 'array':
      return `a list${listed(schema)}`;
    case 'object':
      return keysOf(schema).length === 0
        ? 'a section'
        : `a section with the keys ${keysOf(schema).join(', ')}`;
    default:
      return '';
  }
}

/** Flattens nested unions, enumerations and lists of types into single branches. */
function choices(schema: JsonSchema): JsonSchema[] {
  if (schema.description === undefined && schema.anyOf) return schema.anyOf.flatMap(choices);
  if (schema.enum) return schema.enum.map((value) => ({ const: value }));
  return Array.isArray(schema.type) ? schema.type.map((type) => ({ ...schema, type })) : [schema];
}

function listed({ prefixItems, items }: JsonSchema): string {
  if (prefixItems) {
    const [first, ...others] = prefixItems.map((one) => allowedBy(one as JsonSchema));
    const entries = others.every((other) => other === first)
      ? `, each ${first}`
      : `: ${[first, ...others].join(', then ')}`;
    return ` of ${prefixItems.length} values${entries}`;
  }
  return typeof items === 'object' && !Array.isArray(items)
    ? ` in which each entry is ${allowedBy(items as JsonSchema)}`
    : '';
}

function either(parts: readonly string[]): string {
  const different = [...new Set(parts.filter((part) => part !== ''))];
  return [different.slice(0, -1).join(', '), different.at(-1)].filter((part) => part).join(' or ');
}

/** Describes the bounds of a number. Ignores zod's default bounds of integers, ±(2^53 − 1). */
function range({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum }: JsonSchema): string {
  const bound = (value: unknown): number | null =>
    typeof value === 'number' && Math.abs(value) < Number.MAX_SAFE_INTEGER ? value : null;
  const above = bound(exclusiveMinimum);
  const least = bound(minimum) ?? (type === 'integer' && above !== null ? above + 1 : null);
  const most = bound(maximum);
  const below = bound(exclusiveMaximum);
  if (least !== null && most !== null) return ` from ${least} to ${most}`;
  const low = least !== null ? `of at least ${least}` : above !== null ? `above ${above}` : '';
  const high = most !== null ? `up to ${most}` : below !== null ? `below ${below}` : '';
  const bounds = [low, high].filter((text) => text !== '').join(' and ');
  return bounds === '' ? '' : ` ${bounds}`;
}
