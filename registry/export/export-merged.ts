import { existsSync } from 'node:fs';
import { mergeModel } from '../../lora/adapter/merge-model.ts';
import { describeBase } from '../../lora/models/base/base-identity.ts';
import { registryError } from '../errors.ts';
import { requireSameBase } from '../known-base.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import { versionCard } from './card.ts';
import { writeCard } from './card-file.ts';
import { withFiles } from './export-folder.ts';

/** Options of `exportMerged`: the folders to write to and to read from, and callbacks. */
export interface ExportMergedOptions {
  /** Folder to write the merged model to. The folder must be empty, or must not exist yet, unless `force` is set. */
  readonly output: string;
  /** Replaces a model in the output folder. Other files in the folder stay, except a model card. @default false */
  readonly force?: boolean;
  /** Folder of the base. @default the folder where the base was last seen on this machine */
  readonly base?: string;
  /** Folder that caches the digests of bases. @default SWARM_CACHE, else lora-swarm in the user's cache folder */
  readonly cacheDir?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Called with the bytes of weights that have been written, and with their total number. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Called with a warning, for example if the adapter may have been made for another base. */
  readonly onWarning?: (text: string) => void;
}

/**
 * Writes a merged model, the base with the version added to its weights, and a model card.
 * @throws SwarmError BASE_UNKNOWN if no base is given, and none was seen on this machine
 * @throws SwarmError ADAPTER_BASE if the version was made for another base; the errors of `mergeModel`
 */
export async function exportMerged(
  registry: Registry,
  version: AdapterVersion,
  options: ExportMergedOptions,
): Promise<void> {
  const base = await baseOf(registry, version, options);
  await withFiles(registry, version, (adapter) => mergeModel({ ...options, base, adapter }));
  await writeCard(options.output, versionCard(registry, version, 'merged'), options.onWarning);
}

/**
 * Returns the folder of a version's base, after checking that the base in it has the right digest.
 * @param options `base`: the folder. @default the folder where the base was last seen on this machine
 * @throws SwarmError BASE_UNKNOWN, ADAPTER_BASE
 */
export async function baseOf(
  registry: Registry,
  version: AdapterVersion,
  { base: given, cacheDir, signal }: Pick<ExportMergedOptions, 'base' | 'cacheDir' | 'signal'>,
): Promise<string> {
  const { digest: wanted, name } = version.manifest.base;
  const seen = registry.baseFolder(wanted);
  const base = given ?? (seen !== null && existsSync(seen) ? seen : null);
  if (base === null) {
    const message = `the base of ${version.label} (${name ?? wanted}) has not been seen on this machine`;
    throw registryError('BASE_UNKNOWN', message, { version: version.label, base: wanted });
  }
  const { digest } = await describeBase(base, {
    ...(cacheDir !== undefined && { cacheDir }),
    ...(signal && { signal }),
  });
  requireSameBase(version, { digest, where: base });
  return base;
}
