import { join } from 'node:path';
import { readJsonObject } from '../../models/json.ts';
import { PEFT_PREFIX } from '../../models/lora.ts';
import { readHeader } from '../../models/weights/safetensors.ts';
import { MAX_ADAPTER_HEADER_BYTES } from '../codec.ts';
import { adapterError } from '../errors.ts';
import { loraConfig } from '../lora-config.ts';
import { type ModuleMatrices, readMatrices } from '../matrices.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MAX_CONFIG_BYTES, writePeftFolder } from '../peft.ts';
import type { Combined } from './combine.ts';

/** What is read from a PEFT folder in order to combine its adapter with others. */
export interface CombinableFolder {
  readonly modules: readonly ModuleMatrices[];
  /**
   * Names of the target modules, as the folder's config lists them. Null if the config has a pattern instead of a list, or
   * narrows the list with `layers_to_transform` or `exclude_modules`.
   */
  readonly targets: readonly string[] | null;
  /** Whether the weights of the base are stored as [in, out] (Conv1D). */
  readonly isConv1d: boolean;
}

/**
 * Reads a PEFT folder, so that its adapter can be combined with others. The adapter may have only LoRA matrices.
 * @throws SwarmError COMBINE_PARTS if the adapter also has magnitudes (DoRA), biases or saved modules; the
 *   errors of `readMatrices`
 */
export async function readCombinable(folder: string): Promise<CombinableFolder> {
  const weights = join(folder, ADAPTER_WEIGHTS_FILE);
  const config = await readJsonObject(join(folder, ADAPTER_CONFIG_FILE), MAX_CONFIG_BYTES);
  const { entries } = await readHeader(weights, MAX_ADAPTER_HEADER_BYTES);
  const modules = await readMatrices(folder);
  const matrices = new Set(modules.flatMap((module) => matrixNames(module)));
  const other = [...entries.keys()].find((name) => !matrices.has(name));
  if (other !== undefined || config.use_dora === true) {
    const part = other ?? 'use_dora';
    const where =
      other === undefined ? `the setting use_dora in ${ADAPTER_CONFIG_FILE}` : `the tensor ${other}`;
    throw adapterError(
      'COMBINE_PARTS',
      `the adapter in ${folder} has more than LoRA matrices (${where}), so it cannot be combined with others`,
      { file: weights, part },
    );
  }
  const { target_modules: targets } = config;
  const isPartial = [config.layers_to_transform, config.exclude_modules].some((value) => value != null);
  const isList = Array.isArray(targets) && targets.every((target) => typeof target === 'string');
  return {
    modules,
    targets: isList && !isPartial ? targets : null,
    isConv1d: config.fan_in_fan_out === true,
  };
}

/**
 * Writes a combined adapter as a PEFT folder, with α = r, so that its scale is 1.
 * @param sources the folders that it was combined from
 * @throws SwarmError LORA_CONFIG if the rank is above the limit; STORE_FULL, WRITE_FAILED
 */
export async function writeCombined(
  dir: string,
  { rank, modules }: Combined,
  sources: readonly CombinableFolder[],
  base: { readonly name: string | null; readonly revision: string | null; readonly digest: string },
): Promise<void> {
  const lists = sources.map(({ targets }) => targets);
  const targets = lists.every((list) => list !== null) ? lists.flat() : modules.map(({ name }) => name);
  const isConv1d = sources.some((source) => source.isConv1d);
  const tensors = modules
    .flatMap((module) => {
      const [a, b] = matrixNames(module);
      const kind = isConv1d && !module.isEmbedding ? ({ conv1d: true } as const) : {};
      return [
        { name: a!, shape: [rank, module.in], group: 'A' as const, values: module.a, ...kind },
        { name: b!, shape: [module.out, rank], group: 'B' as const, values: module.b, ...kind },
      ];
    })
    .sort((one, two) => (one.name < two.name ? -1 : 1));
  await writePeftFolder(dir, {
    layout: tensors.map(({ values: _, ...entry }) => entry),
    tensors: tensors.map(({ values }) => values),
    lora: loraConfig({ rank, alpha: rank, targets: [...new Set(targets)].sort() }),
    baseModelName: base.name,
    revision: base.revision,
    baseDigest: base.digest,
  });
}

/** Returns the names of a module's matrices A and B in adapter_model.safetensors. */
function matrixNames({ name, isEmbedding }: Pick<ModuleMatrices, 'name' | 'isEmbedding'>): string[] {
  return ['A', 'B'].map((matrix) =>
    isEmbedding
      ? `${PEFT_PREFIX}${name}.lora_embedding_${matrix}`
      : `${PEFT_PREFIX}${name}.lora_${matrix}.weight`,
  );
}
