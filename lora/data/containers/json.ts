import { dataError } from '../errors.ts';
import { readUtf8Bytes } from './file-bytes.ts';
import { JsonSplitter, SplitError, type SplitFailure } from './json-splitter.ts';
import { jsonLines } from './jsonl.ts';
import {
  type ContainerOptions,
  MAX_ROW_BYTES,
  parseRow,
  type RawRow,
  type RowBatches,
  tooLong,
} from './raw-rows.ts';

/**
 * Number of bytes that are searched for the end of the first line. If the first record of a JSON-lines file is longer
 * than this, the file must be named .jsonl.
 */
const MAX_LOOK_AHEAD = 1024 * 1024;

const NEWLINE = 0x0a;
const SPACE = 0x20;
const OPEN_OBJECT = 0x7b;

const FAILURES: Record<SplitFailure, { reason: string; next?: string }> = {
  empty: { reason: 'it is empty' },
  'not-json': { reason: 'it is not JSON' },
  'cut-off': { reason: 'it ends inside a value', next: 'check that the file is complete' },
  'no-rows': {
    reason: 'it contains no array of records',
    next: 'write the records as [{…}, {…}], or one record as an object; if its columns have unusual names, give them with --column or, in a job file, data.columns (docs/data.md)',
  },
  'two-arrays': {
    reason: 'it contains more than one array of records',
    next: 'put each array into a separate file',
  },
  'text-after-the-end': {
    reason: 'there is text after the end of the JSON value',
    next: 'name the file .jsonl if every line is a record',
  },
};

export interface JsonOptions extends ContainerOptions {
  /**
   * Column names that a record may have. They distinguish a file with a single record from a file with an object that
   * contains the records.
   */
  wanted: ReadonlySet<string>;
}

/**
 * Reads a JSON file: an array of records, an object around one such array, a single record, or JSON lines under the
 * wrong file name. Record numbers count from 1; in JSON lines, the record number is the line number.
 * @throws DATA_JSON (values: file, row, failure); errors of readUtf8Bytes
 */
export async function* readJson(file: string, { wanted, ...options }: JsonOptions): RowBatches {
  const chunks = readUtf8Bytes(file, options);
  const { head, lines, whole } = await lookAhead(chunks);
  if (whole && isSingleRow(head, wanted)) {
    yield [parseRow(head, 1)];
    return;
  }
  const all = (async function* () {
    yield head;
    yield* chunks;
  })();
  if (lines) yield* jsonLines(all);
  else yield* elements(all, file);
}

async function* elements(chunks: AsyncIterable<Buffer>, file: string): RowBatches {
  const splitter = new JsonSplitter({ maxBytes: MAX_ROW_BYTES });
  let row = 0;
  try {
    for await (const chunk of chunks) {
      const rows = splitter.push(chunk).map((element): RawRow => {
        row++;
        if (element.bytes !== null) return parseRow(element.bytes, row);
        if (element.why === 'long') return tooLong(row);
        return { row, code: 'ROW_NESTING', reason: 'its values are nested too deeply' };
      });
      if (rows.length > 0) yield rows;
    }
    splitter.end();
  } catch (error) {
    if (!(error instanceof SplitError)) throw error;
    const { failure } = error;
    const { reason, next } = FAILURES[failure];
    const place = row === 0 ? file : `${file}, after record ${row}`;
    throw dataError('DATA_JSON', `${place}: ${reason}`, { file, row, failure }, { next });
  }
}

/** The start of a file. */
interface FileHead {
  readonly head: Buffer;
  /** Whether the file is in JSON Lines format. If so, the first line is an object, and another object follows. */
  readonly lines: boolean;
  /** Whether `head` is the whole file. */
  readonly whole: boolean;
}

async function lookAhead(chunks: AsyncGenerator<Buffer>): Promise<FileHead> {
  let head: Buffer = Buffer.alloc(0);
  let lines = false;
  for (let decided = false; head.length <= MAX_LOOK_AHEAD; ) {
    const next = await chunks.next();
    if (next.done) return { head, lines, whole: true };
    head = Buffer.concat([head, next.value]);
    const found = decided ? null : firstLine(head);
    if (!found) continue;
    decided = true;
    lines = found.next === OPEN_OBJECT && isObjectText(found.line);
    if (lines) break;
  }
  return { head, lines, whole: false };
}

/**
 * Returns whether the text is a single record: an object that has a wanted column. No other column may be a list of
 * objects. For example, `{"data": [{…}]}` is an object around records and not a record.
 */
function isSingleRow(text: Buffer, wanted: ReadonlySet<string>): boolean {
  const value = parsedObject(text);
  if (value === null) return false;
  const names = Object.keys(value);
  const lists = names.filter((name) => isListOfObjects(value[name]));
  return names.some((name) => wanted.has(name)) && lists.every((name) => wanted.has(name));
}

function isListOfObjects(value: unknown): boolean {
  return Array.isArray(value) && typeof value[0] === 'object' && value[0] !== null;
}

/**
 * Returns the first line that is not blank, and the first visible byte after it; null if `head` lacks one of the two.
 */
function firstLine(head: Buffer): { line: Buffer; next: number } | null {
  const start = head.findIndex(isVisible);
  const end = start < 0 ? -1 : head.indexOf(NEWLINE, start);
  const next = end < 0 ? undefined : head.subarray(end).find(isVisible);
  return next === undefined ? null : { line: head.subarray(start, end), next };
}

function isVisible(byte: number): boolean {
  return byte > SPACE;
}

function isObjectText(line: Buffer): boolean {
  return parsedObject(line) !== null;
}

function parsedObject(text: Buffer): Record<string, unknown> | null {
  if (text.find(isVisible) !== OPEN_OBJECT) return null;
  try {
    return JSON.parse(text.toString('utf8')) as Record<string, unknown>;
  } catch {
    return null;
  }
}
