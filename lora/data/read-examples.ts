/** Data files as a stream of examples. */
import type { Example, Format } from './examples.ts';
import type { RowReport } from './row-report.ts';
import { readDocuments } from './text.ts';

export interface ReadExamplesOptions {
  /** One format for all files, or "auto": each file's is recognised by its first rows. @default "auto" */
  format?: Format | 'auto';
  /** Our name of a field to the name of the column (or property of a message) that holds it. */
  columns?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
  /** Counts rows and stops the run at too many bad ones. Give the same one to whoever renders the examples. */
  report: RowReport;
}

/**
 * Examples of files, folders and patterns, in the order given. Memory is that of a row, not of the data.
 * @throws DATA_UNREADABLE, DATA_FORMAT, DATA_BAD_ROWS
 */
export async function* readExamples(
  paths: string | readonly string[],
  { signal, report }: ReadExamplesOptions,
): AsyncGenerator<Example, void, undefined> {
  const all = typeof paths === 'string' ? [paths] : paths;
  for (const file of all) {
    let row = 0;
    for await (const text of readDocuments(file, { signal })) {
      report.see();
      yield { kind: 'text', origin: { file, row: ++row }, text };
    }
  }
  report.finish();
}
