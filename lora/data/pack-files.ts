import { fromSystem } from '../../common/errors.ts';
/** From data files to packed rows on disk, kept between runs. */

import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import type { SwarmError } from '../../common/errors.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { dataError } from './errors.ts';
import type { Example } from './examples.ts';
import { dataFiles } from './files.ts';
import { packExamples } from './packing/pack-examples.ts';
import { newTally, type RowTally, whyNoRows } from './packing/tally.ts';
import { readExamples } from './read-examples.ts';
import type { Renderer } from './render/renderer.ts';
import { type BadRow, RowReport } from './row-report.ts';
import { type DataSettings, readingOf, rendererFor } from './settings.ts';
import { cutShards } from './shards/cut-shards.ts';
import { StoredRows } from './stored-rows.ts';
import type { TextTokenizer } from './tokenizer.ts';

/** Packed sets that stay in the cache, each 1.5 to 2.5 times as large as its text; the one used longest ago goes first. */
const KEPT_SETS = 8;
/** What is written is not yet a set; left behind by a killed run, it goes after a day. */
const PARTIAL = '.partial-';
const PARTIAL_LIFE_MS = 24 * 60 * 60 * 1000;
/** To be raised when the same files come to be read, tokenised, rendered or packed otherwise. */
const VERSION = 3;

/** Some of the examples of the files. */
export interface ExamplePart {
  /** Tells it apart from other parts of the same files. */
  readonly name: string;
  /** Which examples, counted from 0 as they are read; not asked where the rows are there already. */
  chosen(): Promise<(index: number) => boolean>;
}

export interface PackFilesOptions {
  paths: readonly string[];
  settings: DataSettings;
  sequenceLength: number;
  /** @default all examples */
  part?: ExamplePart;
  /** Of the tokenizer and the chat template. */
  modelDir: string;
  cacheDir: string;
  /** Milliseconds since 1970: the day that a chat template may print. */
  now: number;
  signal?: AbortSignal;
  /** Bytes of files read so far, of all. */
  onProgress?: (done: number, total: number) => void;
  /** Each row that cannot be used; none where the packed rows were there already. */
  onBad?: (row: BadRow) => void;
}

/**
 * Packed rows of the files, out of the cache where they are there: the key is a digest of the files' content, the
 * tokenizer, the chat template, and the settings. Memory does not grow with the data. Close the result.
 * @throws DATA_*, TEMPLATE_*, STORE_FULL, DATA_EMPTY when there is nothing to train on
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
    // A cache that cannot be tidied is only larger.
    await tidy(root, Date.now()).catch(() => {});
    const packed = await StoredRows.open(dir);
    if (packed?.key === key) return packed;
    throw dataError('DATA_UNREADABLE', `${dir} cannot be written; see who owns it`, { file: dir });
  } finally {
    await renderer.close();
  }
}

/**
 * Moves a complete set to where it belongs. What is in the way stays if it is the same rows, from a run that was faster;
 * it is looked at only now, since another run may have finished while this one packed.
 */
async function place(partial: string, dir: string, key: string): Promise<void> {
  try {
    await rename(partial, dir);
  } catch {
    const there = await StoredRows.open(dir);
    there?.close();
    if (there?.key === key) return;
    await rm(dir, { recursive: true, force: true });
    await rename(partial, dir);
  }
}

function noSpace(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}

function storeFull(dir: string, cause: unknown): SwarmError {
  const message = `there is no space for packed data in ${dir}; free some, or name another cache folder`;
  return commonError('STORE_FULL', message, { dir }, { cause });
}

async function write(
  dir: string,
  key: string,
  { paths, settings, sequenceLength, part, signal, onProgress, onBad }: PackFilesOptions,
  { renderer, tally }: { renderer: Renderer; tally: RowTally },
): Promise<boolean> {
  const { badRowShare, packing, truncation } = settings;
  const report = new RowReport({ badRowShare, onBad });
  const all = readExamples(paths, { ...readingOf(settings), signal, report, onProgress });
  const examples = part === undefined ? all : filtered(all, await part.chosen());
  const rows = packExamples(examples, renderer, {
    sequenceLength,
    packing,
    truncation,
    report,
    tally,
    signal,
  });
  const shards = cutShards(rows, { sequenceLength, vocabSize: renderer.tokenizer.vocabSize });
  return StoredRows.write(dir, shards, () => ({ key, read: report.summary(), tally }));
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
  // Today's date is part of what such a template writes.
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

/** Removes what nobody will use again. A set that another run reads stays readable to it on POSIX systems. */
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
