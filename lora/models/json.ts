import { type FileHandle, open } from 'node:fs/promises';
import type { SwarmError } from '../../common/errors.ts';
import { modelError } from './errors.ts';

/** Maximum size of a model's JSON file in bytes. tokenizer.json with 256k tokens takes about 33 MB. */
export const MAX_JSON_BYTES = 64 * 2 ** 20;

/**
 * Reads a JSON object from a file.
 * @throws SwarmError MODEL_FILE_MISSING, MODEL_FILE_TOO_LARGE, MODEL_JSON
 */
export async function readJsonObject(
  path: string,
  maxBytes = MAX_JSON_BYTES,
): Promise<Record<string, unknown>> {
  const { handle, size } = await openFile(path);
  try {
    if (size > maxBytes)
      throw modelError('MODEL_FILE_TOO_LARGE', `${path} has ${size} bytes (maximum ${maxBytes})`, {
        file: path,
        expected: maxBytes,
        found: size,
      });
    return parseJsonObject(await handle.readFile('utf8'), path);
  } finally {
    await handle.close();
  }
}

/** Opens a regular file of a model for reading. @throws SwarmError MODEL_FILE_MISSING */
export async function openFile(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const stats = await handle.stat();
    if (stats.isFile()) return { handle, size: stats.size };
  } catch (cause) {
    await handle?.close();
    throw missing(path, cause);
  }
  await handle.close();
  throw missing(path, undefined);
}

function missing(path: string, cause: unknown): SwarmError {
  return modelError(
    'MODEL_FILE_MISSING',
    `${path} cannot be read: ${reasonOf(cause)}`,
    { file: path },
    { cause },
  );
}

function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return 'it is not a regular file';
  return 'code' in cause && cause.code === 'ENOENT' ? 'no such file' : cause.message;
}

/**
 * Parses a JSON object and refuses repeated keys. JSON.parse silently uses the last of two equal keys. Another program
 * may use the first of the two, and would then see different contents.
 * @param file name of the source, for errors
 * @throws SwarmError MODEL_JSON
 */
export function parseJsonObject(text: string, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw modelError(
      'MODEL_JSON',
      `${file} is not JSON (${cause instanceof Error ? cause.message : cause})`,
      { file },
      { cause },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw modelError('MODEL_JSON', `${file} is not a JSON object`, { file });
  const key = repeatedKey(text);
  if (key !== null)
    throw modelError('MODEL_JSON', `${file} has the key ${JSON.stringify(key)} twice`, { file, key });
  return value as Record<string, unknown>;
}

/**
 * Returns the first key that occurs twice in one object of a valid JSON text, or null. In valid JSON a string is a key
 * if and only if a colon follows it, so only strings and braces matter. A regular expression for strings would overflow
 * the stack on a string of a few million characters.
 */
function repeatedKey(text: string): string | null {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{') open.push(new Set());
    else if (character === '}') open.pop();
    else if (character === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      let next = i + 1;
      while (WHITESPACE.has(text[next]!)) next++;
      if (text[next] !== ':') continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return null;
}

const WHITESPACE: ReadonlySet<string> = new Set([' ', '\t', '\n', '\r']);
