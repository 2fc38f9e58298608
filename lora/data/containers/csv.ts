/** CSV and TSV as RFC 4180 describes them, with a header line. */
import { SwarmError } from '../../../protocol/errors.ts';
import { readText } from '../bytes.ts';
import { CsvParser } from './csv-parser.ts';
import { type ContainerOptions, MAX_ROW_BYTES, type RawRow, type RowBatches } from './rows.ts';

/** Columns of one file. */
const MAX_COLUMNS = 10_000;
const REASONS = {
  quotes: 'there is text after a closing quote; a quote in a quoted field is written twice',
  open: 'a quote is opened and never closed',
};

/**
 * Rows by their header; every value is a string. The separator of .csv is the comma, or the semicolon or the tab
 * where the header has no comma. Blank lines are skipped. `row` is the line that the row begins in.
 * @throws DATA_CSV (no header, the same column twice, an endless quoted field), as readText
 */
export async function* readCsv(
  file: string,
  { separator, ...options }: ContainerOptions & { separator: '\t' | null },
): RowBatches {
  const refuse = (reason: string, line: number) =>
    new SwarmError('DATA_CSV', `${file}:${line}: ${reason}`, { file, line, reason });
  const parser = new CsvParser({ separator, maxCharacters: MAX_ROW_BYTES });
  let header: string[] | null = null;
  const take = (records: ReturnType<CsvParser['push']>): RawRow[] => {
    const rows: RawRow[] = [];
    for (const { line, fields, fault } of records) {
      if (fault === 'long') {
        throw refuse(`the row that begins here does not end within ${MAX_ROW_BYTES} characters`, line);
      }
      if (header === null) {
        if (fault) throw refuse(REASONS[fault], line);
        header = columns(fields);
        const double = header.find((name, i) => header!.indexOf(name) !== i);
        if (double !== undefined) throw refuse(`there are two columns named "${double}"`, line);
        if (header.length > MAX_COLUMNS) throw refuse(`there are more than ${MAX_COLUMNS} columns`, line);
      } else rows.push(rowOf(header, { line, fields, fault }));
    }
    return rows;
  };
  for await (const text of readText(file, options)) {
    const rows = take(parser.push(text));
    if (rows.length > 0) yield rows;
  }
  const rows = take(parser.end());
  if (rows.length > 0) yield rows;
  if (header === null) throw refuse('there is no header line', 1);
}

function columns(fields: readonly string[]): string[] {
  return fields.map((name) => name.trim());
}

function rowOf(
  header: readonly string[],
  { line, fields, fault }: { line: number; fields: readonly string[]; fault: 'quotes' | 'open' | null },
): RawRow {
  if (fault) return { row: line, code: 'ROW_QUOTES', reason: REASONS[fault] };
  if (fields.length !== header.length) {
    const reason = `it has ${fields.length} fields, the header has ${header.length}`;
    return { row: line, code: 'ROW_COLUMNS', reason };
  }
  return { row: line, value: Object.fromEntries(header.map((name, i) => [name, fields[i]])) };
}
