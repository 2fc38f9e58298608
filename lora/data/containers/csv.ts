import { isUtf8 } from 'node:buffer';
import { dataError } from '../errors.ts';
import { CsvParser } from './csv-parser.ts';
import { notUtf8Error, readUtf8Bytes } from './file-bytes.ts';
import { type ContainerOptions, MAX_ROW_BYTES, notUtf8, type RawRow, type RowBatches } from './raw-rows.ts';

/**
 * Maximum number of columns in a file. Each record becomes an object with one property per column, so the limit saves
 * memory if a file is not really CSV.
 */
const MAX_COLUMNS = 10_000;
const REASONS = {
  quotes: 'there is text after a closing quote (inside quotes, a quote is written twice)',
  open: 'an opening quote is never closed',
};

/**
 * Reads CSV or TSV (RFC 4180) with a header line. Every value is a string. `row` is the line in which the record
 * starts. Blank lines are skipped.
 * @param separator null for the first of comma, semicolon and tab that the header contains
 * @throws DATA_CSV if there is no header, two columns have the same name, or a record exceeds the limit (for example
 *   because a quoted field never ends); errors of readUtf8Bytes
 */
export async function* readCsv(
  file: string,
  { separator, ...options }: ContainerOptions & { separator: '\t' | null },
): RowBatches {
  const refuse = (reason: string, line: number, next?: string) =>
    dataError('DATA_CSV', `${file}:${line}: ${reason}`, { file, line, reason }, { next });
  const parser = new CsvParser({ separator, maxCharacters: MAX_ROW_BYTES });
  let header: string[] | null = null;
  const take = (records: ReturnType<CsvParser['push']>): RawRow[] => {
    const rows: RawRow[] = [];
    for (const { line, fields: raw, fault } of records) {
      if (fault === 'long') {
        throw refuse(
          `the record that starts here does not end within ${MAX_ROW_BYTES} bytes`,
          line,
          'look for a quote that is never closed',
        );
      }
      if (header === null) {
        if (fault) throw refuse(REASONS[fault], line);
        if (raw.length > MAX_COLUMNS) throw refuse(`there are more than ${MAX_COLUMNS} columns`, line);
        const names = decoded(raw)?.map((name) => name.trim());
        if (names === undefined) throw notUtf8Error(file);
        const double = names.find((name, i) => names.indexOf(name) !== i);
        if (double !== undefined) throw refuse(`there are two columns named "${double}"`, line);
        if (names.some((name) => name.includes('\r'))) {
          throw refuse(
            'its lines end in carriage returns without line feeds',
            line,
            'save it with line feeds',
          );
        }
        header = names;
      } else rows.push(rowOf(header, { line, raw, fault }));
    }
    return rows;
  };
  for await (const bytes of readUtf8Bytes(file, options)) {
    // Each byte becomes one character, so that an invalid byte affects only its own record. Separators stay
    // recognisable, because they are ASCII.
    const rows = take(parser.push(bytes.toString('latin1')));
    if (rows.length > 0) yield rows;
  }
  const rows = take(parser.end());
  if (rows.length > 0) yield rows;
  if (header === null)
    throw refuse('there is no header line', 1, 'add a first line with the names of the columns');
}

/** Decodes fields in which each character stands for one byte. Returns null if a field is not UTF-8. */
function decoded(fields: readonly string[]): string[] | null {
  const texts: string[] = [];
  for (const field of fields) {
    if (!/[\x80-\xff]/.test(field)) {
      texts.push(field);
      continue;
    }
    const bytes = Buffer.from(field, 'latin1');
    if (!isUtf8(bytes)) return null;
    texts.push(bytes.toString('utf8'));
  }
  return texts;
}

function rowOf(
  header: readonly string[],
  { line, raw, fault }: { line: number; raw: readonly string[]; fault: 'quotes' | 'open' | null },
): RawRow {
  if (fault) return { row: line, code: 'ROW_QUOTES', reason: REASONS[fault] };
  if (raw.length !== header.length) {
    const reason = `it has ${raw.length} fields, but the header has ${header.length}`;
    return { row: line, code: 'ROW_COLUMNS', reason };
  }
  const fields = decoded(raw);
  if (fields === null) return notUtf8(line);
  return { row: line, value: Object.fromEntries(header.map((name, i) => [name, fields[i]])) };
}
