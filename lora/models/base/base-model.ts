import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Architecture } from '../architecture.ts';
import { modelError } from '../errors.ts';
import { FAMILIES, type ModelConfig, parseConfig } from '../families.ts';
import { readJsonObject } from '../json.ts';
import { checkTensors, openTensors, type TensorIndex } from '../weights/tensors.ts';

/** A base: a model folder in Hugging Face layout whose files have been checked against each other. */
export interface BaseModel {
  readonly dir: string;
  readonly config: ModelConfig;
  readonly architecture: Architecture;
  readonly tensors: TensorIndex;
  /** Number of values in all parameters. A tied output head counts once. */
  readonly parameters: number;
}

/** Maximum size of config.json in bytes. The config of a published model has a few KiB. */
export const MAX_CONFIG_BYTES = 2 ** 20;

/**
 * Opens a base: reads config.json, tokenizer.json and the headers of the weights, and checks every tensor against the size
 * of its file and the shape that config.json gives it. Does not read the weights.
 *
 * @throws SwarmError MODEL_DIR if the folder cannot be listed
 * @throws SwarmError MODEL_FILE_MISSING, MODEL_JSON, MODEL_CONFIG, MODEL_UNSUPPORTED, MODEL_INDEX, TENSORS_*
 */
export async function openBase(dir: string): Promise<BaseModel> {
  const files = await listFiles(dir);
  const config = parseConfig(await readJsonObject(join(dir, 'config.json'), MAX_CONFIG_BYTES));
  await checkTokenizer(join(dir, 'tokenizer.json'));
  const architecture: Architecture = FAMILIES[config.family];
  const parameters = architecture.parameters(config);
  const tensors = renamed(await openTensors(dir, files), architecture);
  checkTensors(tensors, parameters, (name) => isUnused(name, config));
  const size = parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return { dir, config, architecture, tensors, parameters: size };
}

/** Lists the names of the files in a model folder. @throws SwarmError MODEL_DIR */
export async function listFiles(dir: string): Promise<ReadonlySet<string>> {
  try {
    return new Set(await readdir(dir));
  } catch (cause) {
    throw modelError('MODEL_DIR', `the model folder ${dir} cannot be read`, { dir }, { cause });
  }
}

/**
 * Returns whether a tensor is not used: a buffer in old files, or the copy of a tied head that some exporters write.
 */
export function isUnused(name: string, config: ModelConfig): boolean {
  const { head, isBuffer }: Architecture = FAMILIES[config.family];
  return isBuffer?.(name) || (config.tieWordEmbeddings && name === `${head}.weight`);
}

/** Returns the tensors under the architecture's names. */
function renamed(tensors: TensorIndex, { canonicalName = (name) => name }: Architecture): TensorIndex {
  const index = new Map([...tensors].map(([name, location]) => [canonicalName(name), location]));
  if (index.size === tensors.size) return index;
  const names = [...tensors.keys()];
  const twice = names.find((name) => canonicalName(name) !== name && names.includes(canonicalName(name)))!;
  throw modelError(
    'TENSORS_UNEXPECTED',
    `the weights hold both ${twice} and ${canonicalName(twice)}, which are two names of one tensor`,
    { tensor: twice },
  );
}

async function checkTokenizer(path: string): Promise<void> {
  const { model } = await readJsonObject(path);
  if (typeof model !== 'object' || model === null)
    throw modelError('MODEL_JSON', `${path} has no field "model", so it is not a tokenizer`, { file: path });
}
