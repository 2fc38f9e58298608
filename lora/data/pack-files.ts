/** Packs data files into rows on disk and keeps them in a cache between runs. */

import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { fromSystem, isSystemError, type SwarmError } from '../../common/errors.ts';
import { renameWithRetry } from '../../common/files/durable.ts';
import type { BadRow, RowSummary, RowTally } from '../../protocol/api/job-creation.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { dataError } from './errors.ts';
import type { Example } from './examples.ts';
import { dataFiles } from './files.ts';
import { packExamples } from './packing/pack-examples.ts';
import { newTally, whyNoRows } from './packing/tally.ts';
import { readExamples } from './read-examples.ts';
import type { Renderer } from './render/renderer.ts';
import { RowReport } from './row-report.ts';
import { type DataSettings, readingOf, rendererFor } from './settings.ts';
import { cutShards } from './shards/cut-shards.ts';
import { StoredRows } from './stored-rows.ts';
import type { TextTokenizer } from './tokenizer.ts';

/**
 * Number of packed sets kept in the cache. A packed set is the rows of one data set with one choice of settings. The
 * least recently used set is deleted first. A set is 1.5 to 2.5 times as large as its text.
 */
const KEPT_SETS = 8;
/** Prefix of folders that are still being written. Folders left behind by a killed run are deleted after a day. */
const PARTIAL = '.partial-';
const PARTIAL_LIFE_MS = 24 * 60 * 60 * 1000;
/** Version of the cached rows. Raise it after a change to how files are read, rendered, tokenised or packed. */
const VERSION = 5;

/** A part of the examples, such as the training part. */
export interface ExamplePart {
  /** Name of the part in the cache. It distinguishes this part from other parts of the same files. */
  readonly name: string;
  /**
   * Returns a function that tells whether the part contains an example. The function gets the index of the example,
   * counted from 0 in the order of reading. `chosen` is not called if the rows are in the cache.
   */
  chosen(): Promise<(index: number) => boolean>;
}

export interface PackFilesOptions {
  paths: readonly string[];
  settings: DataSettings;
  sequenceLength: number;
  /** The examples to pack. @default all examples of the files */
  part?: ExamplePart | undefined;
  /**
   * Summary of another part of the same files, which was packed before. It has already counted the records of the files.
   * The summary of this part contains it. @default this part counts the records
   */
  earlier?: RowSummary | undefined;
  /**
   * Whether another part of the same files follows. The share of bad records is checked after that part. @default false
   */
  moreFollow?: boolean;
  /** Folder of the model, with its tokenizer and chat template. */
  modelDir: string;
  cacheDir: string;
  /** The current time, in milliseconds since 1970. Chat templates can print the date. */
  now: number;
  signal?: AbortSignal;
  /** Receives the number of bytes read so far, and the size of all files in bytes. */
  onProgress?: (done: number, total: number) => void;
  /** Receives each record that cannot be used. Not called if the packed rows are in the cache. */
  onBad?: (row: BadRow) => void;
}

/**
 * Packs data files into packed rows, or opens the cached packed rows. The cache key is a digest of the content of the
 * files, the tokenizer, the chat template and the settings. Memory does not grow with the data. Close the result after
 * use.
 * @throws DATA_*, TEMPLATE_*, STORE_FULL; DATA_EMPTY if there is nothing to train on
 */
export async function packFiles(
  options: PackFilesOptions,
  { tokenizer }: { tokenizer: TextTokenizer },
): Promise<StoredRows> {
  const { settings, modelDir, now, cacheDir, paths } = options;
  const renderer = await rendererFor(settings, { dir: modelDir, now }, { tokenizer });
  try {
    const root = join(cacheDir, 'data');
    const key = await keyOf(options, renderer);
    const dir = join(root, key.slice(0, 32));
    const cached = await StoredRows.open(dir);
    if (cached?.key === key) {
      await utimes(dir, new Date(), new Date());
      return cached;
    }
    cached?.close();
    const partial = join(root, `${PARTIAL}${randomBytes(6).toString('hex')}`);
    try {
      const tally = newTally();
      if (!(await write(partial, key, options, { renderer, tally }))) {
        const message = `there is nothing to train on in ${paths.join(', ')}: ${whyNoRows(tally)}`;
        throw dataError('DATA_EMPTY', message, { paths });
      }
      await place(partial, dir, key);
    } catch (error) {
      throw noSpace(error) ? storeFull(root, error) : error;
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
    // The error is ignored, because the only effect is a cache that is larger than it should be.
    await tidy(root, Date.now()).catch(() => {});
    const packed = await StoredRows.open(dir);
    if (packed?.key === key) return packed;
    throw dataError(
      'DATA_UNREADABLE',
      `packed rows cannot be written to ${dir}`,
      { file: dir },
      { next: 'check that you own this folder, or use another cache folder (SWARM_CACHE)' },
    );
  } finally {
    await renderer.close();
  }
}

/**
 * Moves a complete set of packed rows to its place in the cache. If a parallel run has already put the same rows
 * there, those rows are kept. Anything else in this place is replaced.
 */
async function place(partial: string, dir: string, key: string): Promise<void> {
  try {
    await renameWithRetry(partial, dir);
  } catch {
    const there = await StoredRows.open(dir);
    there?.close();
    if (there?.key === key) return;
    await rm(dir, { recursive: true, force: true });
    await renameWithRetry(partial, dir);
  }
}

function noSpace(error: unknown): boolean {
  return isSystemError(error, 'ENOSPC', 'EDQUOT');
}

function storeFull(dir: string, cause: unknown): SwarmError {
  return commonError(
    'STORE_FULL',
    `there is no space for packed data in ${dir}`,
    { dir },
    { cause, next: 'free disk space, or use another cache folder' },
  );
}

async function write(
  dir: string,
  key: string,
  { paths, settings, sequenceLength, part, earlier, moreFollow, signal, onProgress, onBad }: PackFilesOptions,
  { renderer, tally }: { renderer: Renderer; tally: RowTally },
): Promise<boolean> {
  const { badRowShare, packing, truncation } = settings;
  const report = new RowReport({ badRowShare, onBad, earlier });
  const reading = earlier === undefined ? report : report.again();
  const all = readExamples(paths, { ...readingOf(settings), signal, report: reading, onProgress });
  const examples = part === undefined ? all : filtered(all, await part.chosen());
  const rows = packExamples(examples, renderer, {
    sequenceLength,
    packing,
    truncation,
    report,
    tally,
    signal,
    moreFollow,
  });
  const shards = cutShards(rows, { sequenceLength, vocabSize: renderer.tokenizer.vocabSize });
  const isWritten = await StoredRows.write(dir, shards, () => ({ key, read: report.summary(), tally }));
  // Without rows there is no other part to wait for, and many bad records are a better reason than missing rows.
  if (!isWritten) report.finish();
  return isWritten;
}

async function* filtered(
  examples: AsyncIterable<Example>,
  chosen: (index: number) => boolean,
): AsyncGenerator<Example, void, undefined> {
  let index = 0;
  for await (const example of examples) if (chosen(index++)) yield example;
}

async function keyOf(
  { paths, settings, sequenceLength, part, modelDir, now, signal }: PackFilesOptions,
  { sources, specialTokens }: Renderer,
): Promise<string> {
  const files: { container: string; digest: string }[] = [];
  for (const { file, container } of await dataFiles(paths)) {
    files.push({ container, digest: await fileDigest(file, signal) });
  }
  const templates = sources?.templates ?? null;
  // A template that calls strftime_now writes today's date, so its rows are valid for one day.
  const dated = Object.values(templates ?? {}).some((source) => source.includes('strftime_now'));
  const tokenizer = await Promise.all(
    ['tokenizer.json', 'tokenizer_config.json'].map((name) =>
      readFile(join(modelDir, name)).then(sha256, () => null),
    ),
  );
  const { template: _, ...others } = settings;
  return sha256(
    encodeCbor({
      version: VERSION,
      ...(part === undefined ? {} : { part: part.name }),
      files,
      tokenizer,
      templates,
      specialTokens,
      settings: others,
      sequenceLength,
      date: dated ? new Date(now).toISOString().slice(0, 10) : null,
    }),
  );
}

async function fileDigest(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file, { signal, highWaterMark: 1024 * 1024 }))
      hash.update(chunk);
  } catch (cause) {
    signal?.throwIfAborted();
    throw dataError('DATA_UNREADABLE', `${file} cannot be read`, { file }, { cause, ...fromSystem(cause) });
  }
  return hash.digest('hex');
}

/**
 * Deletes the folders of killed runs, and all packed sets except the KEPT_SETS most recently used. On POSIX systems, a
 * run that has a deleted set open can still read it.
 */
async function tidy(root: string, now: number): Promise<void> {
  await mkdir(root, { recursive: true });
  const entries = await Promise.all(
    (await readdir(root)).map(async (name) => {
      const path = join(root, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: now }));
      return { path, partial: name.startsWith(PARTIAL), used: mtimeMs };
    }),
  );
  const sets = entries.filter(({ partial }) => !partial).sort((a, b) => b.used - a.used);
  const old = entries.filter(({ partial, used }) => partial && used < now - PARTIAL_LIFE_MS);
  for (const { path } of [...old, ...sets.slice(KEPT_SETS)]) await rm(path, { recursive: true, force: true });
}
