import { access } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { isSwarmError } from '../../../common/errors.ts';
import { isBuiltIn } from '../../data/render/built-in.ts';
import { finetuneError } from '../errors.ts';
import { absolutePaths } from './absolute-paths.ts';
import { type JobSpec, type JobSpecInput, parseJobSpec } from './job-spec.ts';
import { YamlFile } from './yaml-file.ts';

/** A path with one of these characters may be a glob pattern. */
const PATTERN = /[*?[{]/;

export interface JobFile {
  /** The job with all defaults and absolute paths. */
  readonly spec: JobSpec;
  /** The job as written in the file. */
  readonly written: JobSpecInput;
}

/**
 * Reads a job file. Relative paths in it start from the folder of the file and are returned as absolute paths. The name
 * of a base on the hub stays unchanged. The coordinator runs on the same machine, so a missing path is an
 * error.
 * @throws SwarmError JOB_FILE_MISSING, JOB_PATH_MISSING, JOB_SPEC (values: line and column, or field)
 */
export async function readJobFile(path: string): Promise<JobFile> {
  const file = await YamlFile.read(path, 'job file');
  const spec = absolutePaths(checked(file), dirname(path));
  const { base, data, start, tasks } = spec;
  // A base that is not a path is a name on the hub.
  if (isAbsolute(base)) await assertExists('base', [base], path);
  if (start !== null && isAbsolute(start)) await assertExists('start', [start], path);
  await assertExists('data.train', data.train, path);
  if (typeof data.heldOut !== 'number') await assertExists('data.heldOut', data.heldOut, path);
  if (tasks !== null) await assertExists('tasks.files', tasks.files, path);
  const { template } = data;
  if (template !== null && !isBuiltIn(template)) await assertExists('data.template', template, path);
  return { spec, written: file.value as JobSpecInput };
}

/** @throws SwarmError JOB_SPEC with the place in the file */
function checked(file: YamlFile): JobSpec {
  try {
    return parseJobSpec(file.value);
  } catch (error) {
    if (!isSwarmError(error, 'JOB_SPEC')) throw error;
    const { field, problems } = error.values as { field: string; problems: string[] };
    throw file.wrong(
      field,
      problems,
      'fix the file. With --dry-run, the command checks the file and prints the job with all default settings, but creates nothing',
    );
  }
}

async function assertExists(field: string, paths: string | readonly string[], file: string): Promise<void> {
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (exists || PATTERN.test(path)) continue;
    throw finetuneError(
      'JOB_PATH_MISSING',
      `${field} in ${file}: ${path} does not exist`,
      { field, path },
      { next: 'correct the path; relative paths start from the folder of the job file' },
    );
  }
}
