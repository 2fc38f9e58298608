import { join } from 'node:path';
import type { Parameter } from './architecture.ts';
import { modelError } from './errors.ts';
import { readJsonObject } from './json.ts';
import { floatDtype, readHeader, type SafetensorsEntry } from './safetensors.ts';

/** Where a tensor lies: the file's name inside the model folder and its place in it. */
export interface TensorLocation {
  readonly file: string;
  readonly entry: SafetensorsEntry;
}

export type TensorIndex = ReadonlyMap<string, TensorLocation>;

export const SINGLE_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';

/** Most shards of a model; the largest published ones have a few hundred. */
export const MAX_SHARDS = 1000;

/** A plain file name: no folder, no drive, nothing hidden. An index file is written by strangers. */
const SHARD_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors$/;

/**
 * The tensors of a model folder, from `model.safetensors` or, where there is none, from the shards that its index
 * names: in this order, as transformers. Reads and checks headers only.
 *
 * @throws SwarmError MODEL_INDEX the index is malformed, unsafe, or names a tensor that its shard lacks
 * @throws SwarmError MODEL_FILE_MISSING, MODEL_JSON, TENSORS_* see readJsonObject and readHeader
 */
export async function openTensors(dir: string, files: ReadonlySet<string>): Promise<TensorIndex> {
  if (files.has(SINGLE_FILE) || !files.has(INDEX_FILE)) {
    const { entries } = await readHeader(join(dir, SINGLE_FILE));
    return new Map([...entries].map(([name, entry]) => [name, { file: SINGLE_FILE, entry }]));
  }
  const weightMap = await readWeightMap(join(dir, INDEX_FILE));
  const index = new Map<string, TensorLocation>();
  for (const file of new Set(weightMap.values())) {
    const { entries } = await readHeader(join(dir, file));
    // What the index does not list is told by checkTensors, which knows what may be left out.
    for (const [name, entry] of entries)
      if ((weightMap.get(name) ?? file) === file) index.set(name, { file, entry });
  }
  for (const [name, file] of weightMap) {
    if (!index.has(name))
      throw modelError(
        'MODEL_INDEX',
        `${INDEX_FILE} says that ${name} is in ${file}, but it is not there; get the model again`,
        { file, tensor: name },
      );
  }
  return index;
}

/** Names of the shards in the order of the index. @throws SwarmError MODEL_INDEX, MODEL_FILE_MISSING, MODEL_JSON */
export async function readWeightMap(path: string): Promise<Map<string, string>> {
  const { weight_map: weightMap } = await readJsonObject(path);
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap))
    throw modelError('MODEL_INDEX', `${path} has no weight_map; get the model again`, { file: path });
  const entries = Object.entries(weightMap as Record<string, unknown>);
  for (const [tensor, file] of entries) {
    if (typeof file !== 'string' || !SHARD_NAME.test(file))
      throw modelError(
        'MODEL_INDEX',
        `${path}: ${tensor} lies in ${JSON.stringify(file)}, which is not the plain name of a .safetensors file`,
        { file: path, tensor, found: file },
      );
  }
  const map = new Map(entries as [string, string][]);
  const shards = new Set(map.values()).size;
  if (shards > MAX_SHARDS)
    throw modelError('MODEL_INDEX', `${path} names ${shards} shards, at most ${MAX_SHARDS} are read`, {
      file: path,
      expected: MAX_SHARDS,
      found: shards,
    });
  return map;
}

/**
 * Checks that the weights are exactly those of the architecture: none missing, of another shape or element
 * type, and none that the forward pass would silently leave out (a bias, say).
 *
 * @param ignored names that may be there and are not used
 * @throws SwarmError TENSORS_MISSING, TENSORS_SHAPE, TENSORS_DTYPE, TENSORS_UNEXPECTED
 */
export function checkTensors(
  index: TensorIndex,
  parameters: readonly Parameter[],
  ignored: (name: string) => boolean,
): void {
  const expected = new Map(parameters.map(({ name, shape }) => [name, shape]));
  for (const [name, shape] of expected) {
    const found = index.get(name);
    if (!found)
      throw modelError(
        'TENSORS_MISSING',
        `the weights lack ${name} [${shape.join(', ')}], which config.json asks for; get the model again`,
        { tensor: name, expected: shape },
      );
    floatDtype(found.file, name, found.entry.dtype);
    const same =
      found.entry.shape.length === shape.length && shape.every((size, i) => found.entry.shape[i] === size);
    if (!same)
      throw modelError(
        'TENSORS_SHAPE',
        `${found.file}: ${name} is [${found.entry.shape.join(', ')}], config.json makes it [${shape.join(', ')}]; the two files do not belong together`,
        { file: found.file, tensor: name, expected: shape, found: found.entry.shape },
      );
  }
  for (const [name, { file }] of index) {
    if (!expected.has(name) && !ignored(name))
      throw modelError(
        'TENSORS_UNEXPECTED',
        `${file}: ${name} is no part of the model that config.json describes; its result would be wrong without it`,
        { file, tensor: name },
      );
  }
}
