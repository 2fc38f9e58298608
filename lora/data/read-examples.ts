import type { Origin } from '../../protocol/api/job-creation.ts';
import { readCsv } from './containers/csv.ts';
import { readJson } from './containers/json.ts';
import { readJsonLines } from './containers/jsonl.ts';
import { readParquet } from './containers/parquet.ts';
import type { ContainerOptions, RowBatches } from './containers/raw-rows.ts';
import { readPlainText } from './containers/text.ts';
import { dataError } from './errors.ts';
import type { Example, ExampleBody, Format } from './examples.ts';
import { type DataFile, dataFiles } from './files.ts';
import { type Columns, RowProblem, type RowValue } from './formats/fields.ts';
import { candidates, columnsOf, readRow, recognise, unrecognised } from './formats/formats.ts';
import type { RowReport } from './row-report.ts';

/**
 * Number of records at the start of a file that may decide its format. If none of these records fits a format, the file
 * is refused.
 */
const MAX_UNRECOGNISED = 10;

export interface ReadExamplesOptions {
  /** Format of all files. With "auto", the format of each file is recognised from its records. @default "auto" */
  format?: Format | 'auto';
  /**
   * Maps a field to the column that holds it, such as `{messages: 'dialog'}`. `role` and `content` name the keys of a
   * message. Only formats that have all named fields are considered. @default none
   */
  columns?: Columns;
  signal?: AbortSignal;
  /**
   * Counts records and bad records. `renderExamples` must get the same report. The caller checks the report's share of
   * bad records at the end.
   */
  report: RowReport;
  /**
   * Receives the number of bytes read so far, and the size of all files in bytes. For Parquet, the first number is
   * approximate.
   */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Reads the examples of files, folders and patterns (see `dataFiles`) in the order given. Holds only a few records in
 * memory (for Parquet, one row group). Empty texts are left out.
 *
 * A file has one format, which is decided by the first record that fits any format. If this record fits several
 * formats, the file has the first of them in this order: tokens, segments, messages, sharegpt, completion, alpaca,
 * text. Records that do not fit the file's format are bad records.
 * @throws DATA_NO_FILES, DATA_UNREADABLE, DATA_ENCODING, DATA_JSON, DATA_CSV, DATA_PARQUET, DATA_COLUMNS,
 * DATA_FORMAT if no format is recognised; DATA_BAD_ROWS at the first bad record if no record may be bad
 */
export async function* readExamples(
  paths: string | readonly string[],
  { format = 'auto', columns = {}, signal, report, onProgress }: ReadExamplesOptions,
): AsyncGenerator<Example, void, undefined> {
  const formats = candidates(format, columns);
  const files = await dataFiles(paths);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const onBytes = (count: number): void => {
    done = Math.min(done + count, total);
    onProgress?.(done, total);
  };
  const options = { columns, signal, report, onBytes };
  for (const file of files) {
    signal?.throwIfAborted();
    report.begin(file.file);
    yield* file.container === 'txt' ? readDocument(file, formats, options) : readRows(file, formats, options);
  }
}

type FileOptions = Pick<ReadExamplesOptions, 'signal' | 'report'> & ContainerOptions & { columns: Columns };

/** Reads a text file as one document. It has no columns, so the column map has no effect. */
async function* readDocument(
  { file }: DataFile,
  formats: readonly Format[],
  { signal, report, onBytes }: FileOptions,
): AsyncGenerator<Example, void, undefined> {
  if (!formats.includes('text')) {
    throw dataError(
      'DATA_FORMAT',
      `${file} is a text file, which cannot hold records of the format ${formats.join(' or ')}`,
      { file, columns: [], formats },
      { next: 'write the records to a .jsonl, .json, .csv, .tsv or .parquet file' },
    );
  }
  const text = await readPlainText(file, { signal, onBytes });
  report.see();
  if (text !== '') yield { kind: 'text', origin: { file, row: 1 }, text };
}

async function* readRows(
  entry: DataFile,
  formats: readonly Format[],
  { columns, signal, report, onBytes }: FileOptions,
): AsyncGenerator<Example, void, undefined> {
  const { file } = entry;
  let format: Format | null = null;
  /** Records not yet converted: the current record and, until a record fits a format, all records before it. */
  let waiting: { origin: Origin; value: RowValue }[] = [];
  const refuse = () =>
    unrecognised(
      file,
      waiting.map(({ value }) => value),
      { formats, columns },
    );
  for await (const batch of readContainer(entry, columnsOf(formats, columns), { signal, onBytes })) {
    signal?.throwIfAborted();
    for (const raw of batch) {
      const origin = { file, row: raw.row };
      report.see();
      if ('code' in raw) {
        report.bad({ origin, code: raw.code, reason: raw.reason });
        continue;
      }
      waiting.push({ origin, value: raw.value });
      format ??= recognise(raw.value, formats, columns);
      if (format === null) {
        if (waiting.length >= MAX_UNRECOGNISED) throw refuse();
        continue;
      }
      for (const { origin, value } of waiting) {
        const example = toExample(value, format, { origin, formats, columns, report });
        if (example !== null && !(example.kind === 'text' && example.text === '')) {
          yield { origin, ...example };
        }
      }
      waiting = [];
    }
  }
  if (waiting.length > 0) throw refuse();
}

/** Converts a record to an example. Returns null if the record was reported as a bad record. */
function toExample(
  value: RowValue,
  format: Format,
  {
    origin,
    formats,
    columns,
    report,
  }: { origin: Origin; formats: readonly Format[]; columns: Columns; report: RowReport },
): ExampleBody | null {
  try {
    return readRow(value, format, columns);
  } catch (error) {
    if (!(error instanceof RowProblem)) throw error;
    const other = recognise(value, formats, columns);
    const hint =
      other === null || other === format
        ? ''
        : `; it looks like ${other}, but the file is read as ${format} because of its first record`;
    report.bad({ origin, code: error.code, reason: `${error.message}${hint}` });
    return null;
  }
}

function readContainer(
  { file, container }: DataFile,
  wanted: ReadonlySet<string>,
  options: ContainerOptions,
): RowBatches {
  switch (container) {
    case 'json':
      return readJson(file, { ...options, wanted });
    case 'csv':
      return readCsv(file, { ...options, separator: null });
    case 'tsv':
      return readCsv(file, { ...options, separator: '\t' });
    case 'parquet':
      return readParquet(file, { ...options, wanted });
    default:
      return readJsonLines(file, options);
  }
}
