import { access } from 'node:fs/promises';
import { dirname, isAbsolute, resolve } from 'node:path';
import { isSwarmError } from '../common/errors.ts';
import { isBuiltIn } from '../lora/data/render/built-in.ts';
import { type JobSpec, parseJobSpec } from '../lora/finetune/job-spec.ts';
import { absoluteBase } from './base-model.ts';
import { cliError } from './error-codes.ts';
import { YamlFile } from './yaml-file.ts';

/** A path with one of these may be a pattern, which stands for what it matches. */
const PATTERN = /[*?[{]/;

/**
 * Reads a job's YAML file; relative paths in it are taken from where the file lies, and come back absolute; a base on
 * a hub stays a name. The
 * coordinator runs on this machine, so what is not there is said before it is asked.
 * @throws SwarmError JOB_FILE_MISSING, JOB_PATH_MISSING, JOB_SPEC (with line and column, or the field)
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const spec = specOf(await YamlFile.read(path, 'job file'), path);
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
  return specOf(new YamlFile(text, path), path);
}

function specOf(file: YamlFile, path: string): JobSpec {
  const spec = checked(file);
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
function checked(file: YamlFile): JobSpec {
  try {
    return parseJobSpec(file.value);
  } catch (error) {
    if (!isSwarmError(error, 'JOB_SPEC')) throw error;
    const { field, problems } = error.values as { field: string; problems: string[] };
    throw file.wrong(
      field,
      problems,
      'mend the file; with --dry-run it is only checked, and shown with all defaults',
    );
  }
}

async function assertThere(field: string, paths: string | readonly string[], file: string): Promise<void> {
  for (const path of typeof paths === 'string' ? [paths] : paths) {
    const there = await access(path).then(
      () => true,
      () => false,
    );
    if (there || PATTERN.test(path)) continue;
    throw cliError(
      'JOB_PATH_MISSING',
      `${field} of ${file}: there is no ${path}`,
      { field, path },
      { next: 'correct the path; it is taken from the folder of the job file' },
    );
  }
}
