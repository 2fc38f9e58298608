/** The YAML file of `lora-swarm train --config`: the keys of a job file, and a block `run`. */

import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { type Problem, specProblems } from '../../../common/schema-problems.ts';
import { baseBitsSchema, type ComputeInput, engineSchema, precisionSchema } from '../../train/compute.ts';
import { absolutePaths } from './absolute-paths.ts';
import { foreignKeys } from './foreign-keys.ts';
import { jobSpecSchema } from './job-spec.ts';
import { type Layer, trainSpecSchema } from './settings.ts';
import { YamlFile } from './yaml-file.ts';

const { base, data, lora, training, run, preset, seed } = trainSpecSchema.shape;
const { name, rounds, acceptance, admission, start, tasks, samples } = jobSpecSchema.shape;

/**
 * The keys of a config file, all of which are optional. A job file can be used as a config file without changes: the
 * keys that matter only in a swarm are checked and then ignored.
 */
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
  start: start.optional(),
  name: name.optional(),
  rounds: rounds.optional(),
  acceptance: acceptance.optional(),
  admission: admission.optional(),
  tasks: tasks.optional(),
  samples: samples.optional(),
});

/** The settings of a config file, with absolute paths. */
export interface ConfigFile {
  layer: Layer;
  /**
   * Settings for computing, like the flags of `lora-swarm train`. `engine: auto` is in `computeDefaults` instead, so
   * that it does not override the engine in a checkpoint.
   */
  compute: Pick<ComputeInput, 'engine' | 'baseBits' | 'precision' | 'gradientCheckpointing'>;
  /** Settings for computing that apply only if the checkpoint of a resumed run does not have them. */
  computeDefaults: ComputeInput;
  /** Folder of the adapter. */
  output?: string | undefined;
  /** Adapter to start from: an absolute path, or a version in the registry. */
  start?: string | undefined;
}

/** Reads a config file. @throws SwarmError JOB_FILE_MISSING, JOB_SPEC (values: field, problems, line and column) */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const file = await YamlFile.read(path, 'config file');
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
  // Takes the values as written, without the schema's defaults, because flags or a preset may set what is missing.
  const written = value as Record<string, unknown> & Pick<Layer, 'data' | 'training'> & ConfigFile['compute'];
  const { name: _name, rounds: _rounds, acceptance: _acceptance, admission: _admission, ...others } = written;
  const { tasks: _tasks, samples: _samples, ...own } = others;
  const { output, training: settings, engine, baseBits, precision, gradientCheckpointing, ...rest } = own;
  const { start, ...layer } = absolutePaths(
    {
      ...rest,
      // warmupSteps in the file override a preset's warmupRatio.
      training: settings?.warmupSteps === undefined ? settings : { warmupRatio: null, ...settings },
    } as Layer & { start?: string | null },
    dirname(path),
  );
  // A resumed run keeps the engine in its checkpoint, so `auto` in the file must not override that engine.
  const isAuto = engine === 'auto';
  return {
    layer,
    start: start ?? undefined,
    compute: { engine: isAuto ? undefined : engine, baseBits, precision, gradientCheckpointing },
    computeDefaults: isAuto ? { engine } : {},
    output: output === undefined ? undefined : resolve(dirname(path), String(output)),
  };
}
