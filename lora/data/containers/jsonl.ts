import { readUtf8Bytes } from './file-bytes.ts';
import {
  type ContainerOptions,
  MAX_ROW_BYTES,
  parseRow,
  type RawRow,
  type RowBatches,
  tooLong,
} from './raw-rows.ts';

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;

/** Reads JSON lines: one object per line. @throws the errors of readUtf8Bytes */
export function readJsonLines(file: string, options: ContainerOptions): RowBatches {
  return jsonLines(readUtf8Bytes(file, options));
}

/**
 * Reads records from chunks, which may end in the middle of a line. Lines end in LF or CRLF. Blank lines are skipped,
 * but counted.
 */
export async function* jsonLines(
  chunks: AsyncIterable<Buffer>,
  { maxBytes = MAX_ROW_BYTES }: { maxBytes?: number } = {},
): RowBatches {
  let line = 0;
  // The start of a line whose end has not been read yet. If the line exceeds the limit, only its length is kept.
  let parts: Buffer[] = [];
  let length = 0;
  const finish = (rest: Buffer): RawRow | null => {
    line++;
    const long = length + rest.length > maxBytes;
    const whole = parts.length === 0 ? rest : Buffer.concat([...parts, rest]);
    parts = [];
    length = 0;
    return long ? tooLong(line) : rowOf(whole, line);
  };
  for await (const chunk of chunks) {
    const rows: RawRow[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const row = finish(chunk.subarray(start, end));
      if (row) rows.push(row);
      start = end + 1;
    }
    const rest = chunk.subarray(start);
    length += rest.length;
    if (length > maxBytes) parts = [];
    else if (rest.length > 0) parts.push(rest);
    if (rows.length > 0) yield rows;
  }
  const last = length > 0 ? finish(Buffer.alloc(0)) : null;
  if (last) yield [last];
}

function rowOf(bytes: Buffer, line: number): RawRow | null {
  return isBlank(bytes) ? null : parseRow(bytes, line);
}

function isBlank(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== SPACE && byte !== RETURN && byte !== 0x09) return false;
  return true;
}
