/** The YAML file of `swarm train --config`: the keys of a job file, and a block `run`. */
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { type Problem, specProblems } from '../../common/schema-problems.ts';
import { jobSpecSchema } from '../../lora/finetune/job-spec.ts';
import { type Layer, trainSpecSchema } from '../../lora/finetune/settings.ts';
import { YamlFile } from '../../lora/finetune/yaml-file.ts';
import { absoluteBase } from '../../lora/models/find-base.ts';
import {
  baseBitsSchema,
  type ComputeInput,
  engineSchema,
  precisionSchema,
} from '../../lora/train/compute.ts';
import { templatePath } from './flag-layer.ts';
import { foreignKeys } from './foreign-keys.ts';

const { base, data, lora, training, run, preset, seed } = trainSpecSchema.shape;
const { name, rounds, acceptance, admission } = jobSpecSchema.shape;

/** Every key may be left out. What only a swarm has is checked and not used, so that a job file serves as it is. */
const configSchema = z.strictObject({
  base: base.optional(),
  output: z.string().min(1).optional(),
  engine: engineSchema.optional(),
  baseBits: baseBitsSchema.optional(),
  precision: precisionSchema.optional(),
  gradientCheckpointing: z.boolean().optional(),
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
export interface ConfigFile
  extends Layer,
    Pick<ComputeInput, 'engine' | 'baseBits' | 'precision' | 'gradientCheckpointing'> {
  output?: string;
}

/**
 * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC (values: field, problems; line and column where it is no YAML)
 */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  return configOf(await YamlFile.read(path, 'config file'), path);
}

/** @throws SwarmError JOB_SPEC */
export function parseConfigFile(text: string, path: string): ConfigFile {
  return configOf(new YamlFile(text, path), path);
}

function configOf(file: YamlFile, path: string): ConfigFile {
  const value: unknown = file.value ?? {};
  const refuse = (problems: readonly Problem[]): void => {
    const [first] = problems;
    if (first === undefined) return;
    const texts = problems.map(({ text }) => text);
    throw file.wrong(first.field, texts, 'mend the file; docs/training.md has its keys');
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
