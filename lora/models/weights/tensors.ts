import { join } from 'node:path';
import type { Parameter } from '../architecture.ts';
import { modelError } from '../errors.ts';
import { readJsonObject } from '../json.ts';
import { floatDtype, readHeader, type SafetensorsEntry } from './safetensors.ts';

/** Location of a tensor: the name of its file in the model folder, and its place in that file. */
export interface TensorLocation {
  readonly file: string;
  readonly entry: SafetensorsEntry;
}

export type TensorIndex = ReadonlyMap<string, TensorLocation>;

export const SINGLE_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';

/** Maximum number of shards; the largest published models have a few hundred. */
export const MAX_SHARDS = 1000;

/**
 * Pattern of allowed file names in the index of shards. The index is untrusted, so only plain names are allowed: no
 * folder, no drive, no hidden file.
 */
const SHARD_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors$/;

/**
 * Finds the tensors of a model folder. Like transformers, it uses `model.safetensors` or, if that is missing, the shards
 * of the index. Reads and checks only headers.
 *
 * @throws SwarmError MODEL_INDEX if the index is malformed, unsafe, or names a tensor that its shard lacks
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
    // Includes tensors that the index does not list, because checkTensors decides whether they may be ignored.
    for (const [name, entry] of entries)
      if ((weightMap.get(name) ?? file) === file) index.set(name, { file, entry });
  }
  for (const [name, file] of weightMap) {
    if (!index.has(name))
      throw modelError('MODEL_INDEX', `${INDEX_FILE} says that ${name} is in ${file}, but it is not there`, {
        file,
        tensor: name,
      });
  }
  return index;
}

/**
 * Reads the shard of each tensor from an index, in the order of the index.
 * @throws SwarmError MODEL_INDEX, MODEL_FILE_MISSING, MODEL_JSON
 */
export async function readWeightMap(path: string): Promise<Map<string, string>> {
  return weightMapOf(await readJsonObject(path), path);
}

/** Returns the shard of each tensor. @param path name of the file, for errors @throws SwarmError MODEL_INDEX */
export function weightMapOf(index: Readonly<Record<string, unknown>>, path: string): Map<string, string> {
  const { weight_map: weightMap } = index;
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap))
    throw modelError('MODEL_INDEX', `${path} has no weight_map`, { file: path });
  const entries = Object.entries(weightMap as Record<string, unknown>);
  for (const [tensor, file] of entries) {
    if (typeof file !== 'string' || !SHARD_NAME.test(file))
      throw modelError(
        'MODEL_INDEX',
        `${path}: the shard of ${tensor} is ${JSON.stringify(file)}, which is not a plain name of a .safetensors file`,
        { file: path, tensor, found: file },
      );
  }
  const map = new Map(entries as [string, string][]);
  const shards = new Set(map.values()).size;
  if (shards > MAX_SHARDS)
    throw modelError('MODEL_INDEX', `${path} names ${shards} shards (maximum ${MAX_SHARDS})`, {
      file: path,
      expected: MAX_SHARDS,
      found: shards,
    });
  return map;
}

/**
 * Checks that the weights match the architecture exactly. No tensor may be missing, or have another shape or an
 * unsupported element type. A tensor that the forward pass would silently ignore, such as a bias, is refused.
 *
 * @param ignored whether a tensor may be present without being used
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
        `the weights have no ${name} [${shape.join(', ')}], which config.json requires`,
        { tensor: name, expected: shape },
      );
    floatDtype(found.file, name, found.entry.dtype);
    const same =
      found.entry.shape.length === shape.length && shape.every((size, i) => found.entry.shape[i] === size);
    if (!same)
      throw modelError(
        'TENSORS_SHAPE',
        `${found.file}: ${name} is [${found.entry.shape.join(', ')}], expected [${shape.join(', ')}] from config.json`,
        { file: found.file, tensor: name, expected: shape, found: found.entry.shape },
      );
  }
  for (const [name, { file }] of index) {
    if (!expected.has(name) && !ignored(name))
      throw modelError(
        'TENSORS_UNEXPECTED',
        `${file}: ${name} is not part of the model that config.json describes, and ignoring it would give wrong results`,
        { file, tensor: name },
      );
  }
}
