/** What is wrong with a job specification, for whoever wrote it: the field, what stands there, what may stand there. */
import { z } from 'zod';

export interface Problem {
  /** Its keys, joined by dots; "" for the whole. */
  field: string;
  text: string;
}

/** Longest piece of what was found that is repeated in a message, characters. */
const SHOWN_CHARACTERS = 60;

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** The issues that `schema` found in `value`, in words. */
export function specProblems(
  schema: z.ZodType,
  value: unknown,
  issues: readonly z.core.$ZodIssue[],
): Problem[] {
  // The one form of a zod schema in which all bounds of a field can be read, not only the one that was violated.
  const root: JsonSchema = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return issues.flatMap((issue) => {
    const field = issue.path.join('.');
    const place = schemaAt(root, issue.path);
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey([...issue.path, key].join('.'), key, keysOf(place)));
    }
    const name = field || 'the specification';
    // Rules of our own have words of our own.
    if (issue.code === 'custom' || issue.code === 'invalid_format') {
      return [{ field, text: `${name} ${standsThere(value, issue.path)}: it ${issue.message}` }];
    }
    const is = standsThere(value, issue.path);
    const allowed = place === null ? '' : allowedBy(place);
    return [
      { field, text: `${name} ${is}${allowed === '' ? `: ${issue.message}` : `; it must be ${allowed}`}` },
    ];
  });
}

function unknownKey(field: string, key: string, known: readonly string[]): Problem {
  const meant = nearest(key, known);
  const hint = meant ? `did you mean "${meant}"?` : `known are ${known.join(', ')}`;
  return { field, text: `"${field}" is no known key; ${hint}` };
}

function standsThere(value: unknown, path: readonly PropertyKey[]): string {
  const found = valueAt(value, path);
  if (found !== undefined) {
    const text = JSON.stringify(found) ?? String(found);
    return `is ${text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}`;
  }
  // Some fields are brought into another form before they are checked.
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
    const inner = items ?? branch.properties?.[String(step)];
    const found = typeof inner === 'object' && !Array.isArray(inner) ? schemaAt(inner, rest) : null;
    if (found !== null) return found;
  }
  return null;
}

function keysOf(schema: JsonSchema | null): string[] {
  return Object.keys(schema?.properties ?? {});
}

/** "a whole number from 1 to 512"; "" where the schema cannot say. */
function allowedBy(schema: JsonSchema): string {
  if (schema.description !== undefined) return schema.description;
  if (schema.anyOf || schema.enum) return either(choices(schema).map(allowedBy));
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case 'integer':
      return `a whole number${range(schema)}`;
    case 'number':
      return `a number${range(schema)}`;
    case 'string':
      return 'a text';
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    case 'array':
      return `a list${listed(schema)}`;
    case 'object':
      return `a section with the keys ${keysOf(schema).join(', ')}`;
    default:
      return '';
  }
}

/** Branches of unions of unions, one value of a list of values each. */
function choices(schema: JsonSchema): JsonSchema[] {
  if (schema.description === undefined && schema.anyOf) return schema.anyOf.flatMap(choices);
  return schema.enum ? schema.enum.map((value) => ({ const: value })) : [schema];
}

function listed({ prefixItems, items }: JsonSchema): string {
  if (prefixItems)
    return ` of ${prefixItems.length}: ${either(prefixItems.map((one) => allowedBy(one as JsonSchema)))}`;
  return typeof items === 'object' && !Array.isArray(items) ? `, each ${allowedBy(items as JsonSchema)}` : '';
}

function either(parts: readonly string[]): string {
  const different = [...new Set(parts.filter((part) => part !== ''))];
  return [different.slice(0, -1).join(', '), different.at(-1)].filter((part) => part).join(' or ');
}

/** Bounds that somebody set: whole numbers have others too, the last that a double can tell apart. */
function range({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum }: JsonSchema): string {
  const bound = (value: unknown): number | null =>
    typeof value === 'number' && Math.abs(value) < Number.MAX_SAFE_INTEGER ? value : null;
  const above = bound(exclusiveMinimum);
  const least = bound(minimum) ?? (type === 'integer' && above !== null ? above + 1 : null);
  const low = least !== null ? `from ${least}` : above !== null ? `above ${above}` : '';
  const most = bound(maximum);
  const below = bound(exclusiveMaximum);
  const high = most !== null ? `up to ${most}` : below !== null ? `below ${below}` : '';
  if (low === '' || high === '') return low || high ? ` ${low}${high}` : '';
  return least === null ? ` ${low} and ${high}` : ` ${low} ${most === null ? `to ${high}` : `to ${most}`}`;
}

/** The known key with the fewest edits, if those are few enough to be a slip. */
function nearest(key: string, known: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  let best: { name: string; edits: number } | null = null;
  for (const name of known) {
    const edits = distance(plain(key), plain(name));
    if (!best || edits < best.edits) best = { name, edits };
  }
  return best && best.edits <= Math.max(1, Math.floor(best.name.length / 3)) ? best.name : null;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn one text into the other. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1]!;
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? rows[i - 2]![j - 2]! + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(replaced, above[j]! + 1, row[j - 1]! + 1, swap));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
