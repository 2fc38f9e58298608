/** Reads the documents of a task from local files. */
import { dirname, isAbsolute, resolve } from 'node:path';
import { readJson } from '../../data/containers/json.ts';
import { readJsonLines } from '../../data/containers/jsonl.ts';
import { readParquet } from '../../data/containers/parquet.ts';
import type { RowBatches } from '../../data/containers/raw-rows.ts';
import { type DataFile, dataFiles } from '../../data/files.ts';
import { evaluateError } from '../errors.ts';
import { fromJson, isDeeperThan, type PythonValue } from '../python/values.ts';
import type { TaskConfig } from './config.ts';
import type { TaskFile } from './task-file.ts';

/** A document: its columns by name. */
export type Document = Readonly<Record<string, PythonValue>>;

/** The documents of one split. */
export interface Split {
  readonly documents: readonly Document[];
  /** Names of the columns, in the order of their first appearance. */
  readonly columns: ReadonlySet<string>;
}

/** Maximum number of documents of a split. The number is limited because all documents are held in memory. */
const MAX_DOCUMENTS = 2_000_000;
/** Maximum nesting of the lists and objects of a document. Deeper values cannot be printed or compared. */
const MAX_NESTING = 256;
const READERS = ['json', 'parquet'];

/** The splits of a task, read when they are first needed. */
export class Splits {
  readonly #config: TaskConfig;
  readonly #files: ReadonlyMap<string, readonly string[]>;
  readonly #read = new Map<string, Promise<Split>>();
  readonly #signal: AbortSignal | undefined;

  /** @throws TASK_FILE, TASK_UNSUPPORTED */
  constructor(config: TaskConfig, signal?: AbortSignal) {
    this.#config = config;
    this.#files = splitFiles(config.file);
    this.#signal = signal;
  }

  /** @throws TASK_FILE for an unknown split; TASK_DATA, DATA_* */
  get(name: string, key: string): Promise<Split> {
    const files = this.#files.get(name);
    if (files === undefined) {
      const known = [...this.#files.keys()].join(', ');
      throw this.#config.file.wrong(key, `is ${name}, but dataset_kwargs.data_files has only ${known}`);
    }
    let split = this.#read.get(name);
    if (split === undefined) {
      split = readSplit(files, this.#signal);
      this.#read.set(name, split);
    }
    return split;
  }

  /** Returns the documents to evaluate: the test split, or else the validation split. */
  evaluated(): Promise<Split> {
    const { testSplit, validationSplit, file } = this.#config;
    if (testSplit !== null) return this.get(testSplit, 'test_split');
    if (validationSplit !== null) return this.get(validationSplit, 'validation_split');
    throw file.wrong('test_split', 'and validation_split are missing');
  }

  /** Returns the documents from which few-shot examples are drawn. */
  async fewshotPool(): Promise<readonly Document[]> {
    const { fewshot, trainingSplit } = this.#config;
    if (fewshot.split !== null) return (await this.get(fewshot.split, 'fewshot_split')).documents;
    if (fewshot.samples !== null) return fewshot.samples.map((sample) => fromJson(sample) as Document);
    if (trainingSplit !== null) return (await this.get(trainingSplit, 'training_split')).documents;
    const { validationSplit } = this.#config;
    if (validationSplit !== null) return (await this.get(validationSplit, 'validation_split')).documents;
    return (await this.evaluated()).documents;
  }
}

/**
 * Returns the paths of each split. Files listed without the name of a split are the split `train`, as in `datasets`.
 */
function splitFiles(file: TaskFile): Map<string, string[]> {
  const reader = file.entries.get('dataset_path')?.value ?? null;
  if (typeof reader !== 'string') throw file.wrong('dataset_path', 'is missing');
  if (!READERS.includes(reader)) {
    throw file.unsupported('dataset_path', `the data set ${reader}, which is neither json nor parquet,`);
  }
  const entry = file.entries.get('dataset_kwargs');
  const { data_files: files, ...rest } = (entry?.value ?? {}) as Record<string, unknown>;
  const unknown = Object.keys(rest).find((key) => key !== 'trust_remote_code');
  if (unknown !== undefined) throw file.unsupported('dataset_kwargs', `the key ${unknown} of dataset_kwargs`);
  if (files === undefined || files === null) throw file.wrong('dataset_kwargs', 'has no data_files');
  const bySplit = typeof files === 'object' && !Array.isArray(files) ? files : { train: files };
  const folder = dirname(entry!.file);
  return new Map(
    Object.entries(bySplit).map(([split, value]) => {
      const paths: unknown[] = Array.isArray(value) ? value : [value];
      return [
        split,
        paths.map((path) => {
          if (typeof path !== 'string' || path === '')
            throw file.wrong('dataset_kwargs', 'has a path that is not a text');
          if (/^[a-z]+:\/\//i.test(path)) throw file.unsupported('dataset_kwargs', `the address ${path}`);
          return isAbsolute(path) ? path : resolve(folder, path);
        }),
      ];
    }),
  );
}

async function readSplit(paths: readonly string[], signal: AbortSignal | undefined): Promise<Split> {
  const rows: Document[] = [];
  const columns = new Set<string>();
  for (const file of await dataFiles(paths)) {
    for await (const batch of rowsOf(file, signal)) {
      signal?.throwIfAborted();
      for (const row of batch) {
        if ('code' in row) {
          throw evaluateError('TASK_DATA', `${file.file}:${row.row}: ${row.reason}`, {
            ...row,
            file: file.file,
          });
        }
        if (isDeeperThan(row.value, MAX_NESTING)) {
          throw evaluateError(
            'TASK_DATA',
            `${file.file}:${row.row}: its values are nested more than ${MAX_NESTING} deep`,
            { file: file.file, row: row.row, most: MAX_NESTING },
          );
        }
        for (const name of Object.keys(row.value)) columns.add(name);
        rows.push(fromJson(row.value) as Document);
        if (rows.length > MAX_DOCUMENTS) {
          throw evaluateError('TASK_DATA', `${file.file}: more than ${MAX_DOCUMENTS} documents`, {
            file: file.file,
          });
        }
      }
    }
  }
  if (rows.length === 0) {
    throw evaluateError('TASK_DATA', `${paths.join(', ')}: there are no documents`, { files: paths });
  }
  // All documents of a data set have the same columns. A column that a document lacks is None.
  const documents = rows.map((row) =>
    Object.fromEntries([...columns].map((name) => [name, row[name] ?? null])),
  );
  return { documents, columns };
}

function rowsOf({ file, container }: DataFile, signal: AbortSignal | undefined): RowBatches {
  const options = { ...(signal && { signal }) };
  switch (container) {
    case 'jsonl':
      return readJsonLines(file, options);
    case 'json':
      return readJson(file, { ...options, wanted: new Set() });
    case 'parquet':
      return readParquet(file, { ...options, wanted: null });
    default:
      throw evaluateError('TASK_DATA', `${file} is not a JSON or Parquet file`, { file });
  }
}
