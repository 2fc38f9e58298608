/** Reads task files: YAML with the keys of lm-evaluation-harness's tasks. */
import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { isMap, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { fromSystem, isSystemError, type SwarmError } from '../../../common/errors.ts';
import { evaluateError } from '../errors.ts';

/** Maximum length of a task file, in characters. Files written by hand are far shorter. */
const MAX_CHARACTERS = 1024 * 1024;
/** Maximum number of files that `include` may read. */
const MAX_FILES = 32;

/** The value of a key, and the place where it is written. */
export interface Entry {
  readonly value: unknown;
  readonly file: string;
  readonly line: number;
}

/** The keys of a task file and of the files that it includes. */
export class TaskFile {
  /** Path of the task file. Relative paths of data files start from the folder of the file that names them. */
  readonly path: string;
  readonly entries: ReadonlyMap<string, Entry>;

  constructor(path: string, entries: ReadonlyMap<string, Entry>) {
    this.path = path;
    this.entries = entries;
  }

  /**
   * Reads a task file and the files that it includes. The keys of a file take precedence over the keys of included
   * files.
   * @throws TASK_FILE, TASK_UNSUPPORTED for `!function`
   */
  static async read(path: string): Promise<TaskFile> {
    return new TaskFile(path, await readEntries(resolve(path), new Set()));
  }

  /** Returns the values of all keys, without their places in the files. */
  plain(): Record<string, unknown> {
    return Object.fromEntries([...this.entries].map(([key, { value }]) => [key, value]));
  }

  /** Returns an error for the value of a key. */
  wrong(key: string, problem: string): SwarmError {
    const { place, values } = this.#at(key);
    return evaluateError('TASK_FILE', `${place}: ${key} ${problem}`, values);
  }

  /** Returns an error for a feature that this program lacks. @param feature for example "the filter custom" */
  unsupported(key: string, feature: string): SwarmError {
    const { place, values } = this.#at(key);
    return evaluateError('TASK_UNSUPPORTED', `${place}: ${feature} is not supported`, { ...values, feature });
  }

  #at(key: string): { place: string; values: Record<string, unknown> } {
    const entry = this.entries.get(key);
    const file = entry?.file ?? this.path;
    return {
      place: entry === undefined ? file : `${file}:${entry.line}`,
      values: { file, key, ...(entry && { line: entry.line }) },
    };
  }
}

async function readEntries(path: string, seen: Set<string>): Promise<Map<string, Entry>> {
  if (seen.has(path)) throw evaluateError('TASK_FILE', `${path} includes itself`, { file: path });
  if (seen.size === MAX_FILES) {
    throw evaluateError('TASK_FILE', `${path}: more than ${MAX_FILES} files are included`, { file: path });
  }
  seen.add(path);
  const own = parseEntries(await readText(path), path);
  const include = own.get('include');
  own.delete('include');
  if (include === undefined) return own;
  const merged = new Map<string, Entry>();
  for (const name of Array.isArray(include.value) ? include.value : [include.value]) {
    if (typeof name !== 'string') {
      throw evaluateError('TASK_FILE', `${path}:${include.line}: include must be the name of a file`, {
        file: path,
      });
    }
    const target = isAbsolute(name) ? name : resolve(dirname(path), name);
    const found = await readEntries(target, seen);
    found.delete('task_list');
    for (const [key, entry] of found) merged.set(key, entry);
  }
  for (const [key, entry] of own) merged.set(key, entry);
  return merged;
}

async function readText(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const isMissing = isSystemError(cause, 'ENOENT');
    const isFolder = isSystemError(cause, 'EISDIR');
    const reason = isMissing ? 'there is no such file' : isFolder ? 'it is a folder' : cause.message;
    const next = `name the task files in it: ${join(path, '*.yaml')}`;
    throw evaluateError(
      'TASK_FILE',
      `the task file ${path} cannot be read: ${reason}`,
      { file: path, reason },
      { cause, ...(isFolder ? { next } : fromSystem(cause)) },
    );
  });
  if (text.length <= MAX_CHARACTERS) return text;
  throw evaluateError(
    'TASK_FILE',
    `${path} has ${text.length} characters; a task file has at most ${MAX_CHARACTERS}`,
    { file: path },
  );
}

function parseEntries(text: string, file: string): Map<string, Entry> {
  const lines = new LineCounter();
  // lm-evaluation-harness reads YAML 1.1, where `no` is a boolean.
  const document = parseDocument(text, { version: '1.1', lineCounter: lines, prettyErrors: true });
  const lineOf = (range: readonly number[] | null | undefined) => lines.linePos(range?.[0] ?? 0).line;
  const [error] = document.errors;
  if (error !== undefined) {
    const line = error.linePos?.[0].line;
    const reason = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
    throw evaluateError('TASK_FILE', `${file}:${line ?? 1}: this is not valid YAML: ${reason}`, {
      file,
      line,
    });
  }
  visit(document, {
    Node: (_, node) => {
      if (node.tag?.startsWith('!')) {
        const line = lineOf(node.range);
        const named = isScalar(node) ? `${node.tag} ${String(node.value)}` : node.tag;
        throw evaluateError(
          'TASK_UNSUPPORTED',
          `${file}:${line}: ${named} is not supported, because it would run Python code`,
          { file, line, feature: node.tag },
        );
      }
    },
  });
  if (!isMap(document.contents)) {
    throw evaluateError('TASK_FILE', `${file}: a task file must be a YAML mapping (lines of "key: value")`, {
      file,
    });
  }
  const plain = toPlain(document, file);
  const entries = new Map<string, Entry>();
  for (const [key, value] of Object.entries(plain)) {
    const pair = document.contents.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    const range = isScalar(pair?.key) ? pair.key.range : null;
    entries.set(key, { value, file, line: lineOf(range) });
  }
  return entries;
}

/**
 * Converts a YAML document to plain values. The library replaces each alias by a copy of the value that it
 * refers to, and throws if nested aliases would make too many values.
 */
function toPlain(document: ReturnType<typeof parseDocument>, file: string): Record<string, unknown> {
  try {
    return document.toJS() as Record<string, unknown>;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw evaluateError(
      'TASK_FILE',
      `${file}: its aliases cannot be expanded: ${reason}`,
      { file },
      { cause },
    );
  }
}
