import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Architecture } from './architecture.ts';
import { modelError } from './errors.ts';
import { FAMILIES, type ModelConfig, parseConfig } from './families.ts';
import { readJsonObject } from './json.ts';
import { checkTensors, openTensors, type TensorIndex } from './tensors.ts';

/** A model folder in Hugging Face layout whose files have been checked against each other. */
export interface BaseModel {
  readonly dir: string;
  readonly config: ModelConfig;
  readonly architecture: Architecture;
  readonly tensors: TensorIndex;
  /** Number of values in all parameters; a tied output head counts once. */
  readonly parameters: number;
}

/** Largest config.json that is read, in bytes; real ones have a few KiB. */
export const MAX_CONFIG_BYTES = 2 ** 20;

/**
 * Opens a model folder: config.json, tokenizer.json and the headers of the weights. Every tensor is checked
 * against its file's real size and the shape that config.json gives it; no weights are read.
 *
 * @throws SwarmError MODEL_DIR the folder cannot be listed
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

/** Plain files of a model folder. */
export async function listFiles(dir: string): Promise<ReadonlySet<string>> {
  try {
    return new Set(await readdir(dir));
  } catch (cause) {
    throw modelError(
      'MODEL_DIR',
      `the model folder ${dir} cannot be read; give the path of a folder with config.json, tokenizer.json and model.safetensors`,
      { dir },
      { cause },
    );
  }
}

/** Buffers that old checkpoints hold, and the copy of a tied head that some exporters write. */
export function isUnused(name: string, config: ModelConfig): boolean {
  const { head, isBuffer }: Architecture = FAMILIES[config.family];
  return isBuffer?.(name) || (config.tieWordEmbeddings && name === `${head}.weight`);
}

/** The tensors under the names that the architecture gives them. */
function renamed(tensors: TensorIndex, { canonicalName = (name) => name }: Architecture): TensorIndex {
  const index = new Map([...tensors].map(([name, location]) => [canonicalName(name), location]));
  if (index.size === tensors.size) return index;
  const names = [...tensors.keys()];
  const twice = names.find((name) => canonicalName(name) !== name && names.includes(canonicalName(name)))!;
  throw modelError(
    'TENSORS_UNEXPECTED',
    `the weights hold both ${twice} and ${canonicalName(twice)}, which are names of one tensor; get the model again`,
    { tensor: twice },
  );
}

async function checkTokenizer(path: string): Promise<void> {
  const { model } = await readJsonObject(path);
  if (typeof model !== 'object' || model === null)
    throw modelError('MODEL_JSON', `${path} has no "model": it is not a tokenizer; get the model again`, {
      file: path,
    });
}
