/** Finds the data files that paths, folders and patterns refer to, and the container format of each file. */

import * as fs from 'node:fs/promises';
import { readdir, stat } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import { fromSystem, type SwarmError } from '../../common/errors.ts';
import { dataError } from './errors.ts';

const CONTAINERS = ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'txt'] as const;
export type Container = (typeof CONTAINERS)[number];

const EXTENSIONS: ReadonlyMap<string, Container> = new Map([
  ...CONTAINERS.map((name) => [name, name] as const),
  ['ndjson', 'jsonl'] as const,
]);
const COMPRESSIONS = /\.(gz|zst)$/;
/** Text that lists the known extensions, for messages. */
const KNOWN = `${[...EXTENSIONS.keys()].map((name) => `.${name}`).join(', ')}, each also as .gz or .zst`;

/** Apache Arrow: the format that Hugging Face's `datasets` uses for its cache and for `save_to_disk`. */
const ARROW = /\.(arrow|feather)$/i;

export interface DataFile {
  file: string;
  container: Container;
  /** Size on disk, in bytes. */
  bytes: number;
}

/**
 * Returns the data files in the order given.
 *
 * A folder stands for the data files directly in it, sorted by name (UTF-16 code units). Other files and subfolders are
 * skipped, so that train/ and test/ can be side by side. A pattern (`*`, `**`, `?`, `[…]`, `{…}`) stands for the files
 * that it matches, sorted. A path that exists is never treated as a pattern.
 * @throws DATA_UNREADABLE if a file is missing, is not a data file or is Arrow, or if a folder has no data file;
 * DATA_NO_FILES if a pattern matches nothing
 */
export async function dataFiles(paths: string | readonly string[]): Promise<DataFile[]> {
  const found: DataFile[] = [];
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    for (const entry of await expand(path)) found.push(...(await filesOf(entry)));
  }
  return found;
}

/** Returns the container format that a file's name indicates; null if the file is not a data file. */
export function containerOf(file: string): Container | null {
  const name = basename(file).toLowerCase().replace(COMPRESSIONS, '');
  return EXTENSIONS.get(/\.([^.]*)$/.exec(name)?.[1] ?? '') ?? null;
}

async function expand(path: string): Promise<string[]> {
  if (!/[*?[{]/.test(path) || (await stat(path).catch(() => null))) return [path];
  const matches: string[] = [];
  for await (const match of fs.glob(path)) matches.push(match);
  matches.sort((a, b) => (slashed(a) < slashed(b) ? -1 : 1));
  // "**" and "*" match folders too. If the pattern matches any data file, all other matches are left out.
  const files = matches.filter((match) => containerOf(match) !== null);
  const chosen = files.length > 0 ? files : matches;
  if (chosen.length === 0) throw dataError('DATA_NO_FILES', `no file matches ${path}`, { path });
  return chosen;
}

/** Returns the path with forward slashes, so that files have the same order on Windows. */
function slashed(path: string): string {
  return path.split(sep).join('/');
}

async function filesOf(path: string): Promise<DataFile[]> {
  const entry = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === 'ENOENT' ? 'there is no such file or folder' : cause.message;
    throw dataError(
      'DATA_UNREADABLE',
      `${path} cannot be read: ${reason}`,
      { file: path },
      { cause, ...fromSystem(cause) },
    );
  });
  if (!entry.isDirectory()) {
    const container = containerOf(path);
    if (ARROW.test(path)) throw arrow(path);
    if (container === null || !entry.isFile()) {
      throw dataError(
        'DATA_UNREADABLE',
        `${path} is not a data file; known extensions are ${KNOWN}`,
        { file: path },
        { next: 'give the file the extension of its format, or convert it to one of these formats' },
      );
    }
    return [{ file: path, container, bytes: entry.size }];
  }
  const names = (await readdir(path, { withFileTypes: true }))
    .filter((item) => !item.isDirectory() && !item.name.startsWith('.'))
    .map(({ name }) => name)
    .sort();
  // This check comes first, because JSON files beside Arrow files describe the data set and are not data.
  if (names.some((name) => ARROW.test(name))) throw arrow(path);
  const files: DataFile[] = [];
  for (const name of names) {
    const container = containerOf(name);
    const file = join(path, name);
    if (container !== null) files.push({ file, container, bytes: (await stat(file)).size });
  }
  if (files.length === 0) {
    throw dataError(
      'DATA_UNREADABLE',
      `the folder ${path} has no data file directly in it; known extensions are ${KNOWN}`,
      { file: path },
      { next: 'put data files into this folder, or name the files or a pattern such as "data/**/*.jsonl"' },
    );
  }
  return files;
}

function arrow(path: string): SwarmError {
  return dataError(
    'DATA_UNREADABLE',
    `${path} is in Apache Arrow format, which is not supported`,
    { file: path },
    { next: 'write it as Parquet: datasets.load_from_disk(…).to_parquet("train.parquet")' },
  );
}
