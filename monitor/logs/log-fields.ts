import { isSwarmError } from '../../common/errors.ts';
import { safeText } from '../../common/text.ts';

/** Number of levels of a nested structure that a log line shows. Deeper levels are cut off. */
const DEPTH = 4;
/** Number of entries of an object or a list that a log line shows. Further entries are cut off. */
const ENTRIES = 50;

/**
 * Returns fields that are safe to log. Strings lose their terminal control characters, errors become objects with their
 * code and values, binary data becomes its length, and large structures are cut off.
 */
export function safeFields(fields: object): Record<string, unknown> {
  return safeValue(fields, DEPTH) as Record<string, unknown>;
}

function safeValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return safeText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? undefined : value;
  if (value instanceof Error) return errorFields(value, depth);
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
  if (depth === 0) return '…';
  if (Array.isArray(value)) return value.slice(0, ENTRIES).map((item) => safeValue(item, depth - 1));
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, ENTRIES)
      .map(([key, item]) => [safeText(key, { maxCharacters: 64 }), safeValue(item, depth - 1)]),
  );
}

function errorFields(error: Error, depth: number): object {
  const fields: Record<string, unknown> = { name: safeText(error.name), message: safeText(error.message) };
  if (isSwarmError(error)) {
    fields.code = error.code;
    if (depth > 0) fields.values = safeValue(error.values, depth - 1);
  } else {
    // Any other error is a bug or comes from the operating system. The stack shows where it was thrown.
    if ('code' in error) fields.code = error.code;
    fields.stack = error.stack
      ?.split('\n')
      .slice(1, 9)
      .map((line) => safeText(line.trim()));
  }
  if (error.cause !== undefined && depth > 0) fields.cause = safeValue(error.cause, depth - 1);
  return fields;
}
