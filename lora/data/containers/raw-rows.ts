/** Records as read from a container file, before their format is known. */
import { isUtf8 } from 'node:buffer';
import { messageOf } from '../../../common/errors.ts';

/**
 * Maximum size of a record, in bytes. The limit is needed because a parsed record can take tens of times as much
 * memory.
 */
export const MAX_ROW_BYTES = 16 * 1024 * 1024;

/**
 * A record of a file, or the reason why the record cannot be used. `row` is the number of the record, as in
 * `Origin.row`.
 */
export type RawRow =
  | { row: number; value: Readonly<Record<string, unknown>> }
  | { row: number; code: string; reason: string };

/** Records come in batches, because awaiting each record would cost more than reading it. */
export type RowBatches = AsyncGenerator<RawRow[], void, undefined>;

export interface ContainerOptions {
  signal?: AbortSignal;
  /** Receives the number of bytes that were read from the file since the last call. */
  onBytes?: (count: number) => void;
}

/** Parses the JSON text of a record. */
export function parseRow(bytes: Buffer, row: number): RawRow {
  if (!isUtf8(bytes)) return notUtf8(row);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    // V8 counts lines from the start of the record, and "line 1" would look like a line of the file.
    const message = messageOf(error).replace(/position \d+ \(line 1 (column \d+)\)/, '$1');
    // V8's message quotes the text around the error. The quoted text can be long, so the message is cut.
    return { row, code: 'ROW_NOT_JSON', reason: `it is not JSON (${message.slice(0, 120)})` };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { row, code: 'ROW_NOT_OBJECT', reason: 'it is JSON, but not an object with named fields' };
  }
  return { row, value: value as Record<string, unknown> };
}

export function notUtf8(row: number): RawRow {
  const reason =
    'it is not UTF-8 (if this affects many records, convert the file: iconv -f WINDOWS-1252 -t UTF-8)';
  return { row, code: 'ROW_NOT_UTF8', reason };
}

export function tooLong(row: number): RawRow {
  return { row, code: 'ROW_TOO_LONG', reason: `it has more than ${MAX_ROW_BYTES} bytes` };
}
