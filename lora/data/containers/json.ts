/** A JSON file of rows: one array, an object around one array, or JSON lines under the wrong name. */
import { SwarmError } from '../../../protocol/errors.ts';
import { readUtf8Bytes } from '../bytes.ts';
import { JsonSplitter, SplitError, type SplitFailure } from './json-splitter.ts';
import { jsonLines } from './jsonl.ts';
import {
  type ContainerOptions,
  MAX_ROW_BYTES,
  parseRow,
  type RawRow,
  type RowBatches,
  tooLong,
} from './rows.ts';

/** How far to look for the end of the first line: JSON lines with a longer first row have to be called .jsonl. */
const MAX_LOOK_AHEAD = 1024 * 1024;

const FAILURES: Record<SplitFailure, string> = {
  'not-json': 'it is not JSON',
  'cut-off': 'it ends in the middle; is it complete?',
  'no-rows': 'it holds no array of rows',
  'two-arrays': 'it holds more than one array of rows; put each into a file of its own',
  'text-after-the-end':
    'there is text after the end of its JSON value; call it .jsonl if every line is a row',
};

/** Rows are counted from 1, in JSON lines by line. @throws DATA_JSON (values: file, row, failure), as readUtf8Bytes */
export async function* readJson(file: string, options: ContainerOptions): RowBatches {
  const chunks = readUtf8Bytes(file, options);
  const head = await lookAhead(chunks);
  const all = (async function* () {
    yield* head;
    yield* chunks;
  })();
  if (isLines(Buffer.concat(head))) yield* jsonLines(all);
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
    throw new SwarmError('DATA_JSON', `${file}, after row ${row}: ${FAILURES[failure]}`, {
      file,
      row,
      failure,
    });
  }
}

/** Chunks until the first line that is not blank has ended and another one has begun. */
async function lookAhead(chunks: AsyncGenerator<Buffer>): Promise<Buffer[]> {
  const head: Buffer[] = [];
  for (let length = 0; length <= MAX_LOOK_AHEAD; ) {
    const next = await chunks.next();
    if (next.done) break;
    head.push(next.value);
    length += next.value.length;
    if (/\S[^\n]*\n\s*\S/.test(next.value.toString('latin1')) || length > MAX_LOOK_AHEAD) break;
  }
  return head;
}

/** Whether the first line is an object and the next one begins another. */
function isLines(head: Buffer): boolean {
  const [, first, next] = /^\s*(\{[^\n]*)\n\s*(\S)/.exec(head.toString('utf8')) ?? [];
  if (first === undefined || next !== '{') return false;
  try {
    JSON.parse(first);
    return true;
  } catch {
    return false;
  }
}
