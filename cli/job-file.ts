import { access, readFile } from 'node:fs/promises';
import { dirname, isAbsolute, resolve } from 'node:path';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { type JobSpec, parseJobSpec } from '../coordinator/job-spec.ts';
import { isBuiltIn } from '../lora/data/render/built-in.ts';
import { isSwarmError, SwarmError } from '../protocol/errors.ts';
import { absoluteBase } from './base-model.ts';

/** A job file is written by hand. */
const MAX_FILE_BYTES = 1024 * 1024;
/** A path with one of these may be a pattern, which stands for what it matches. */
const PATTERN = /[*?[{]/;

/**
 * Reads a job's YAML file; relative paths in it are taken from where the file lies, and come back absolute; a base on
 * a hub stays a name. The
 * coordinator runs on this machine, so what is not there is said before it is asked.
 * @throws SwarmError JOB_FILE_MISSING, JOB_PATH_MISSING, JOB_SPEC (with line and column, or the field)
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SwarmError('JOB_FILE_MISSING', `the job file ${path} cannot be read`, { path }, { cause });
  });
  if (text.length > MAX_FILE_BYTES) {
    throw new SwarmError('JOB_SPEC', `${path} has ${text.length} characters; that is no job file`, { path });
  }
  const spec = parseJobFile(text, path);
  const { base, data } = spec;
  // What is no path is a name on a hub, and whoever uses the file asks there.
  if (isAbsolute(base)) await assertThere('base', [base], path);
  await assertThere('data.train', data.train, path);
  if (typeof data.heldOut !== 'number') await assertThere('data.heldOut', data.heldOut, path);
  const { template } = data;
  if (template !== null && !isBuiltIn(template)) await assertThere('data.template', template, path);
  return spec;
}

export function parseJobFile(text: string, path: string): JobSpec {
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: true, lineCounter: lines });
  const [error] = document.errors;
  if (error !== undefined) {
    const at = error.linePos?.[0];
    // The place stands before it.
    const reason = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
    throw new SwarmError('JOB_SPEC', `${placeName(path, at)}: not YAML: ${reason}`, {
      path,
      line: at?.line,
      column: at?.col,
      next: 'mend that line; JSON is YAML too',
    });
  }
  const spec = checked(document, lines, path);
  const absolute = (file: string): string => resolve(dirname(path), file);
  const all = (files: string | string[]): string[] =>
    (typeof files === 'string' ? [files] : files).map(absolute);
  const { train, heldOut, template } = spec.data;
  return {
    ...spec,
    base: absoluteBase(spec.base, dirname(path)),
    data: {
      ...spec.data,
      train: all(train),
      heldOut: typeof heldOut === 'number' ? heldOut : all(heldOut),
      template: template === null || isBuiltIn(template) ? template : absolute(template),
    },
  };
}

/** The specification, or where in the file it is wrong. */
function checked(document: Document, lines: LineCounter, path: string): JobSpec {
  try {
    return parseJobSpec(document.toJS());
  } catch (error) {
    if (!isSwarmError(error, 'JOB_SPEC')) throw error;
    const { field, problems } = error.values as { field: string; problems: string[] };
    const at = positionOf(document, lines, field);
    const [first, ...others] = problems;
    const more = others.map((problem) => `; ${problem}`).join('');
    throw new SwarmError('JOB_SPEC', `${placeName(path, at)}: ${first}${more}`, {
      path,
      field,
      problems,
      line: at?.line,
      column: at?.col,
      next: 'mend the file; with --dry-run it is only checked, and shown with all defaults',
    });
  }
}

export interface Position {
  line: number;
  col: number;
}

/** Of a field, or of the innermost section around it that is there. */
export function positionOf(document: Document, lines: LineCounter, field: string): Position | undefined {
  for (const keys = field.split('.'); keys.length > 0; keys.pop()) {
    const node = document.getIn(keys, true) as { range?: [number, number, number] } | undefined;
    if (node?.range) return lines.linePos(node.range[0]);
  }
  return undefined;
}

export function placeName(path: string, at: Position | undefined): string {
  return at === undefined ? path : `${path}:${at.line}:${at.col}`;
}

async function assertThere(field: string, paths: string | readonly string[], file: string): Promise<void> {
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    const there = await access(path).then(
      () => true,
      () => false,
    );
    if (there || PATTERN.test(path)) continue;
    throw new SwarmError('JOB_PATH_MISSING', `${field} of ${file}: there is no ${path}`, {
      field,
      path,
      next: 'correct the path; it is taken from the folder of the job file',
    });
  }
}
