/** The YAML file of `swarm train --config`: the keys of a job file, and a block `run`. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { jobSpecSchema } from '../../coordinator/job-spec.ts';
import { type Problem, specProblems } from '../../coordinator/spec-problems.ts';
import { SwarmError } from '../../protocol/errors.ts';
import { absoluteBase } from '../base-model.ts';
import { placeName, positionOf } from '../job-file.ts';
import { templatePath } from './flag-layer.ts';
import { foreignKeys } from './foreign-keys.ts';
import { type Layer, trainSpecSchema } from './settings.ts';

/** It is written by hand. */
const MAX_FILE_BYTES = 1024 * 1024;

const { base, data, lora, training, run, preset, seed } = trainSpecSchema.shape;
const { name, rounds, acceptance, admission } = jobSpecSchema.shape;

/** Every key may be left out. What only a swarm has is checked and not used, so that a job file serves as it is. */
const configSchema = z.strictObject({
  base: base.optional(),
  output: z.string().min(1).optional(),
  engine: z.string().min(1).optional(),
  data: data
    .extend({ train: data.shape.train.optional(), heldOut: jobSpecSchema.shape.data.shape.heldOut })
    .optional(),
  preset: preset.optional(),
  lora: lora.optional(),
  training: training.optional(),
  run: run.optional(),
  seed: seed.optional(),
  name: name.optional(),
  rounds: rounds.optional(),
  acceptance: acceptance.optional(),
  admission: admission.optional(),
});

/** What a config file says, with absolute paths. */
export interface ConfigFile extends Layer {
  output?: string;
  /** What to train with, as the flag says it: as much a matter of the machine as the output. */
  engine?: string;
}

/**
 * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC (values: field, problems; line and column where it is no YAML)
 */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SwarmError('JOB_FILE_MISSING', `the config file ${path} cannot be read`, { path }, { cause });
  });
  if (text.length > MAX_FILE_BYTES) {
    throw new SwarmError('JOB_SPEC', `${path} has ${text.length} characters; that is no config file`, {
      path,
    });
  }
  return parseConfigFile(text, path);
}

/** @throws SwarmError JOB_SPEC */
export function parseConfigFile(text: string, path: string): ConfigFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: true, lineCounter: lines });
  const [error] = document.errors;
  if (error !== undefined) {
    const at = error.linePos?.[0];
    throw new SwarmError('JOB_SPEC', `${placeName(path, at)}: not YAML: ${error.message.split('\n')[0]}`, {
      path,
      line: at?.line,
      column: at?.col,
    });
  }
  const value: unknown = document.toJS() ?? {};
  const refuse = (problems: readonly Problem[]): void => {
    const [first] = problems;
    if (first === undefined) return;
    const at = positionOf(document, lines, first.field);
    const texts = problems.map((problem) => problem.text);
    throw new SwarmError('JOB_SPEC', `${placeName(path, at)}: ${texts.join('; ')}`, {
      path,
      field: first.field,
      problems: texts,
      line: at?.line,
      column: at?.col,
    });
  };
  refuse(foreignKeys(value));
  const result = configSchema.safeParse(value);
  if (!result.success) refuse(specProblems(configSchema, value, result.error.issues));
  // As it was written: what was left out must stay open for the other places.
  const written = value as Record<string, unknown> & Pick<Layer, 'data' | 'training'>;
  const { name: _name, rounds: _rounds, acceptance: _acceptance, admission: _admission, ...own } = written;
  const absolute = (file: unknown): string => resolve(dirname(path), String(file));
  const all = (files: unknown): string[] | undefined =>
    files === undefined ? undefined : (Array.isArray(files) ? files : [files]).map(absolute);
  const { base: folder, output, data: files, training: settings } = own;
  return {
    ...own,
    base: folder === undefined ? undefined : absoluteBase(String(folder), dirname(path)),
    output: output === undefined ? undefined : absolute(output),
    data: files && {
      ...files,
      train: all(files.train),
      heldOut: typeof files.heldOut === 'number' ? files.heldOut : all(files.heldOut),
      template: templatePath(files.template as string | null | undefined, dirname(path)),
    },
    // Steps of warm-up that were written down count, whatever share a preset would choose.
    training: settings?.warmupSteps === undefined ? settings : { warmupRatio: null, ...settings },
  } as ConfigFile;
}
