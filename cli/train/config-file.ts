/** The YAML file of `swarm train --config`: the keys of a job file, and a block `run`. */

import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { type Problem, specProblems } from '../../common/schema-problems.ts';
import type { ComputeInput } from '../../index.ts';
import { absolutePaths } from '../../lora/finetune/absolute-paths.ts';
import { jobSpecSchema } from '../../lora/finetune/job-spec.ts';
import { type Layer, trainSpecSchema } from '../../lora/finetune/settings.ts';
import { YamlFile } from '../../lora/finetune/yaml-file.ts';
import { baseBitsSchema, engineSchema, precisionSchema } from '../../lora/train/compute.ts';
import { foreignKeys } from './foreign-keys.ts';

const { base, data, lora, training, run, preset, seed } = trainSpecSchema.shape;
const { name, rounds, acceptance, admission } = jobSpecSchema.shape;

/** All keys are optional. Keys for a swarm are checked and ignored, so that a job file can be used unchanged. */
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

/** The settings of a config file, with absolute paths. */
export interface ConfigFile {
  layer: Layer;
  /** Choices of the machine, as flags have them. */
  compute: Pick<ComputeInput, 'engine' | 'baseBits' | 'precision' | 'gradientCheckpointing'>;
  output?: string | undefined;
}

/**
 * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC (values: field, problems; line and column where it is not YAML)
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
    throw file.wrong(first.field, texts, 'fix the file; docs/training.md lists its keys');
  };
  refuse(foreignKeys(value));
  const result = configSchema.safeParse(value);
  if (!result.success) refuse(specProblems(configSchema, value, result.error.issues));
  // The values as written, without the schema's defaults: other sources may set what is missing.
  const written = value as Record<string, unknown> & Pick<Layer, 'data' | 'training'> & ConfigFile['compute'];
  const { name: _name, rounds: _rounds, acceptance: _acceptance, admission: _admission, ...own } = written;
  const { output, training: settings, engine, baseBits, precision, gradientCheckpointing, ...rest } = own;
  const layer = absolutePaths(
    {
      ...rest,
      // warmupSteps in the file override the warmupRatio of a preset.
      training: settings?.warmupSteps === undefined ? settings : { warmupRatio: null, ...settings },
    } as Layer,
    dirname(path),
  );
  return {
    layer,
    compute: { engine, baseBits, precision, gradientCheckpointing },
    output: output === undefined ? undefined : resolve(dirname(path), String(output)),
  };
}
