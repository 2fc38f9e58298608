/** Text on disk as a stream of documents: `.txt` files, `.jsonl` files of `{"text": …}`, folders of both. */
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { SwarmError } from '../../protocol/errors.ts';

/** A document is held in memory whole; bytes. Larger texts belong in several files or rows. */
export const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

export interface ReadOptions {
  signal?: AbortSignal;
}

/**
 * Documents of files and folders, in the order given; inside a folder by file name (code units), not recursive,
 * other extensions skipped. A `.txt` file is one document, a `.jsonl` line with a string `text` is one. Empty
 * documents are left out.
 * @throws DATA_UNREADABLE (missing, too large, no text in a folder), DATA_ROW (file, line, reason)
 */
export async function* readDocuments(
  paths: string | readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<string, void, undefined> {
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    for (const { file, bytes } of await textFiles(path)) {
      options.signal?.throwIfAborted();
      if (extname(file) === '.jsonl') yield* jsonLines(file, options);
      else {
        if (bytes > MAX_DOCUMENT_BYTES) {
          throw new SwarmError(
            'DATA_UNREADABLE',
            `${file} has ${bytes} bytes, more than the ${MAX_DOCUMENT_BYTES} of one document; split it`,
            { file, bytes, limit: MAX_DOCUMENT_BYTES },
          );
        }
        const text = await readFile(file, { encoding: 'utf8', signal: options.signal });
        if (text.length > 0) yield text;
      }
    }
  }
}

async function textFiles(path: string): Promise<{ file: string; bytes: number }[]> {
  try {
    const entry = await stat(path);
    if (!entry.isDirectory()) {
      if (isText(path)) return [{ file: path, bytes: entry.size }];
      throw new SwarmError('DATA_UNREADABLE', `${path} is neither .txt nor .jsonl`, { file: path });
    }
    const names = (await readdir(path)).filter(isText).sort();
    if (names.length === 0) {
      throw new SwarmError('DATA_UNREADABLE', `${path} holds no .txt or .jsonl file`, { file: path });
    }
    return await Promise.all(
      names.map(async (name) => ({ file: join(path, name), bytes: (await stat(join(path, name))).size })),
    );
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw new SwarmError('DATA_UNREADABLE', `${path} cannot be read`, { file: path }, { cause: error });
  }
}

function isText(path: string): boolean {
  return ['.txt', '.jsonl'].includes(extname(path));
}

async function* jsonLines(file: string, { signal }: ReadOptions): AsyncGenerator<string, void, undefined> {
  const stream = createReadStream(file, { encoding: 'utf8', signal });
  let number = 0;
  try {
    for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (line.trim() === '') continue;
      const text = textOf(line, file, number);
      if (text.length > 0) yield text;
    }
  } finally {
    stream.destroy();
  }
}

function textOf(line: string, file: string, number: number): string {
  const refuse = (reason: string) =>
    new SwarmError('DATA_ROW', `${file}:${number}: ${reason}; every line must be {"text": "…"}`, {
      file,
      line: number,
      reason,
    });
  if (line.length > MAX_DOCUMENT_BYTES) throw refuse(`the line has ${line.length} characters`);
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch {
    throw refuse('not JSON');
  }
  if (typeof row !== 'object' || row === null || !('text' in row) || typeof row.text !== 'string') {
    throw refuse('no string "text"');
  }
  return row.text;
}
