import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { type JobSpec, parseJobSpec } from '../coordinator/job-spec.ts';
import { SwarmError } from '../protocol/errors.ts';

/** A job file is written by hand. */
const MAX_FILE_BYTES = 1024 * 1024;

/**
 * Reads a job's YAML file; relative paths in it are taken from where the file lies, and come back absolute.
 * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC (with line and column, or the field)
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SwarmError('JOB_FILE_MISSING', `the job file ${path} cannot be read`, { path }, { cause });
  });
  if (text.length > MAX_FILE_BYTES) {
    throw new SwarmError('JOB_SPEC', `${path} has ${text.length} characters; that is no job file`, { path });
  }
  return parseJobFile(text, path);
}

export function parseJobFile(text: string, path: string): JobSpec {
  const document = parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) {
    const at = error.linePos?.[0];
    const place = at === undefined ? path : `${path}:${at.line}:${at.col}`;
    const [reason] = error.message.split('\n');
    throw new SwarmError('JOB_SPEC', `${place}: not YAML: ${reason}`, {
      path,
      line: at?.line,
      column: at?.col,
    });
  }
  const spec = parseJobSpec(document.toJS());
  const absolute = (file: string): string => resolve(dirname(path), file);
  const all = (files: string | string[]): string[] =>
    (typeof files === 'string' ? [files] : files).map(absolute);
  const { train, heldOut } = spec.data;
  return {
    ...spec,
    base: absolute(spec.base),
    data: { train: all(train), heldOut: typeof heldOut === 'number' ? heldOut : all(heldOut) },
  };
}
