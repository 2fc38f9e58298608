import { fromSystem } from '../../common/errors.ts';
/** Which files a list of paths, folders and patterns means, and what kind of container each is. */

import { glob, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { SwarmError } from '../../common/errors.ts';
import { dataError } from './errors.ts';

const CONTAINERS = ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'txt'] as const;
export type Container = (typeof CONTAINERS)[number];

const EXTENSIONS: ReadonlyMap<string, Container> = new Map([
  ...CONTAINERS.map((name) => [name, name] as const),
  ['ndjson', 'jsonl'] as const,
]);
const COMPRESSIONS = /\.(gz|zst)$/;
/** For messages. */
const KNOWN = `${[...EXTENSIONS.keys()].map((name) => `.${name}`).join(', ')}, each also as .gz or .zst`;

/** Apache Arrow, in which `datasets` keeps its cache and what `save_to_disk` writes. */
const ARROW = /\.(arrow|feather)$/i;

export interface DataFile {
  file: string;
  container: Container;
  /** Size on disk. */
  bytes: number;
}

/**
 * Files in the order given. A folder stands for the data files directly in it, by name (code units); other files
 * and folders in it are skipped, so that train/ and test/ can lie side by side. A pattern (`*`, `**`, `?`, `[…]`,
 * `{…}`) stands for what it matches, sorted; a path that exists is never a pattern.
 * @throws DATA_UNREADABLE (missing, not a data file or Arrow, no data file in a folder), DATA_NO_FILES (pattern)
 */
export async function dataFiles(paths: string | readonly string[]): Promise<DataFile[]> {
  const found: DataFile[] = [];
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    for (const entry of await expand(path)) found.push(...(await filesOf(entry)));
  }
  return found;
}

/** Kind of a file by its name; null for other files. */
export function containerOf(file: string): Container | null {
  const name = basename(file).toLowerCase().replace(COMPRESSIONS, '');
  return EXTENSIONS.get(/\.([^.]*)$/.exec(name)?.[1] ?? '') ?? null;
}

async function expand(path: string): Promise<string[]> {
  if (!/[*?[{]/.test(path) || (await stat(path).catch(() => null))) return [path];
  const matches: string[] = [];
  for await (const match of glob(path)) matches.push(match);
  // "**" and "*" match folders too, but of a folder's files only those that the pattern names are meant.
  const files = matches.filter((match) => containerOf(match) !== null).sort();
  const chosen = files.length > 0 ? files : matches.sort();
  if (chosen.length === 0) throw dataError('DATA_NO_FILES', `no file matches ${path}`, { path });
  return chosen;
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
      throw dataError('DATA_UNREADABLE', `${path} is no data file; known are ${KNOWN}`, { file: path });
    }
    return [{ file: path, container, bytes: entry.size }];
  }
  const names = (await readdir(path, { withFileTypes: true }))
    .filter((item) => !item.isDirectory() && !item.name.startsWith('.'))
    .map(({ name }) => name)
    .sort();
  // What lies beside it describes it, and is no data.
  if (names.some((name) => ARROW.test(name))) throw arrow(path);
  const files: DataFile[] = [];
  for (const name of names) {
    const container = containerOf(name);
    const file = join(path, name);
    if (container !== null) files.push({ file, container, bytes: (await stat(file)).size });
  }
  if (files.length === 0) {
    throw dataError('DATA_UNREADABLE', `${path} holds no data file directly in it; known are ${KNOWN}`, {
      file: path,
    });
  }
  return files;
}

function arrow(path: string): SwarmError {
  const message = `${path} holds Apache Arrow, which is not read; write it as Parquet: datasets.load_from_disk(…).to_parquet("train.parquet")`;
  return dataError('DATA_UNREADABLE', message, { file: path });
}
