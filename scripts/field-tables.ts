/** Tables of the fields of all signed messages, for docs/protocol.md. */
import { z } from 'zod';
import { digestSchema, nameSchema, peerIdSchema } from '../protocol/ids.ts';
import { messageSchemas } from '../protocol/messages.ts';

type Schema = z.core.JSONSchema.BaseSchema;

const named = new Map(
  Object.entries({ digest: digestSchema, 'peer id': peerIdSchema, name: nameSchema }).map(
    ([name, schema]) => [z.toJSONSchema(schema).pattern, name],
  ),
);
/** Bound in Zod's JSON Schema for an integer whose Zod schema has no bound. */
const UNBOUNDED = Number.MAX_SAFE_INTEGER;

export function fieldTables(): string {
  return Object.entries(messageSchemas)
    .map(([kind, schema]) => {
      const json = z.toJSONSchema(schema, { unrepresentable: 'any', io: 'output' });
      const rows = fields(json, '').map(({ path, type }) => `| \`${path}\` | ${type} |`);
      return [`### ${kind}`, '', '| field | type |', '|---|---|', ...rows].join('\n');
    })
    .join('\n\n');
}

/** Returns one row per field. Fields inside maps and lists have their own rows, such as `assignments[].peer`. */
function fields(schema: Schema, prefix: string): { path: string; type: string }[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const field = property as Schema;
    const path = `${prefix}${name}`;
    const inner = notNull(field);
    const list = inner.items as Schema | undefined;
    return [
      { path, type: typeOf(field) },
      ...fields(inner, `${path}.`),
      ...(list ? fields(list, `${path}[].`) : []),
    ];
  });
}

/** Removes null from a schema. JSON Schema has two ways to allow null, and both occur. */
function notNull(schema: Schema): Schema {
  const types: unknown = schema.type;
  if (Array.isArray(types) && types.length === 2 && types[1] === 'null') return { ...schema, type: types[0] };
  const options = schema.anyOf as Schema[] | undefined;
  return options?.length === 2 && options[1]!.type === 'null' ? options[0]! : schema;
}

function typeOf(schema: Schema): string {
  const inner = notNull(schema);
  if (inner !== schema) return `${typeOf(inner)}, or null`;
  if (schema.anyOf) return (schema.anyOf as Schema[]).map(typeOf).join(' or ');
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(' ');
  switch (schema.type) {
    case 'integer':
    case 'number':
      return `${schema.type === 'integer' ? 'integer' : 'number'}${range(schema)}`;
    case 'string':
      return (
        named.get(schema.pattern) ??
        `text${schema.maxLength === undefined ? '' : ` ≤ ${schema.maxLength.toLocaleString('en')}`}`
      );
    case 'array':
      return `list${schema.maxItems === undefined ? '' : ` ≤ ${schema.maxItems.toLocaleString('en')}`}`;
    case 'object':
      return 'map';
    case 'boolean':
      return 'true or false';
    case undefined:
      return 'bytes';
    default:
      throw new Error(`field-tables.ts does not know the type ${schema.type}`);
  }
}

function range({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: Schema): string {
  const parts = [
    minimum !== undefined && minimum > -UNBOUNDED ? `≥ ${minimum}` : '',
    exclusiveMinimum === undefined ? '' : `> ${exclusiveMinimum}`,
    maximum !== undefined && maximum < UNBOUNDED ? `≤ ${maximum.toLocaleString('en')}` : '',
    exclusiveMaximum === undefined ? '' : `< ${exclusiveMaximum}`,
  ].filter((part) => part !== '');
  return parts.length === 0 ? '' : ` ${parts.join(', ')}`;
}
