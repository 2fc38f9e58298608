import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CHAT_TEMPLATE_FILE } from '../lora/adapter/adapter-template.ts';
import { combine } from '../lora/adapter/combine/combine.ts';
import {
  type CombinableFolder,
  readCombinable,
  writeCombined,
} from '../lora/adapter/combine/combined-folder.ts';
import type { SignRule } from '../lora/adapter/combine/elementwise.ts';
import { type CombineMethod, SPARSE_METHODS } from '../lora/adapter/combine/methods.ts';
import { SeededRandom } from '../lora/data/seeded-random.ts';
import { flatSettings } from './adapter-settings.ts';
import { addFolder } from './add-folder.ts';
import { withFiles } from './export/export-folder.ts';
import { inTemporaryFolder } from './folder-views.ts';
import { requireSameBase } from './known-base.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/** Versions to merge into one, and how. */
export interface MergeVersionsOptions {
  /** Name of the adapter to which the result is added as a version. */
  readonly name: string;
  /**
   * The versions to merge. The change that a version makes to the base is multiplied by its weight. A
   * negative weight subtracts the change.
   */
  readonly sources: readonly { readonly version: AdapterVersion; readonly weight: number }[];
  /** Method of the combination. @default 'cat', which gives exactly the weighted sum of the changes */
  readonly method?: CombineMethod;
  /** Share of values that the methods `magnitude_prune`, `ties`, `dare_linear` and `dare_ties` keep. @default 0.5 */
  readonly density?: number;
  /** Rank of the result of `svd`. @default the largest rank of the versions */
  readonly rank?: number;
  /** Rule by which `ties` and `dare_ties` choose the sign of each value. @default 'total' */
  readonly signs?: SignRule;
  /** Seed of the random choice of values that `dare_linear` and `dare_ties` keep. @default 0 */
  readonly seed?: number;
  /** Tags besides `latest` to move to the result. @default none */
  readonly tags?: readonly string[];
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Merges versions of one base. The result is a new version, which records the merged versions as its parents.
 * The formulas are the same as in PEFT's `add_weighted_adapter`. The base is not needed. The result has the chat template
 * of the versions if all of them have the same one.
 * @throws SwarmError ADAPTER_BASE if the versions belong to different bases; COMBINE_PARTS if a version has
 *   more than LoRA matrices; COMBINE_RANKS if the method needs equal ranks; LORA_CONFIG if the rank of the
 *   result is above the limit; VERSION_DAMAGED; the signal's reason
 */
export async function mergeVersions(
  registry: Registry,
  options: MergeVersionsOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { name, sources, method = 'cat', density = 0.5, signs = 'total', seed = 0, signal } = options;
  const first = sources[0]!.version;
  const { base } = first.manifest;
  for (const { version } of sources) requireSameBase(version, { digest: base.digest, where: first.label });
  const folders: CombinableFolder[] = [];
  for (const { version } of sources) {
    signal?.throwIfAborted();
    folders.push(await withFiles(registry, version, readCombinable));
  }
  const random = new SeededRandom(seed);
  const combined = await combine(
    sources.map(({ version, weight }, i) => ({
      label: version.label,
      weight,
      modules: folders[i]!.modules,
    })),
    {
      method,
      density,
      signs,
      uniform: () => random.uniform(),
      signal,
      ...(options.rank !== undefined && { rank: options.rank }),
    },
  );
  const isSparse = SPARSE_METHODS.includes(method);
  const merge = {
    method,
    ...(isSparse && { density }),
    ...(method.endsWith('ties') && { signs }),
    ...(method.startsWith('dare') && { seed }),
  };
  return inTemporaryFolder(registry.home, async (folder) => {
    await writeCombined(folder, combined, folders, base);
    if (isTemplateShared(sources.map(({ version }) => version)))
      await withFiles(registry, first, (from) =>
        copyFile(join(from, CHAT_TEMPLATE_FILE), join(folder, CHAT_TEMPLATE_FILE)),
      );
    return addFolder(registry, {
      name,
      folder,
      base: { base, folder: null },
      parents: sources.map(({ version, weight }) => ({
        digest: version.digest,
        label: version.label,
        method,
        weight,
      })),
      settings: flatSettings({ merge }),
      reason: `merge (${method})`,
      ...(options.tags && { tags: options.tags }),
      signal,
    });
  });
}

/** Returns the digest of a version's chat template; null if the version uses the template of its base. */
export function templateOf({ manifest }: AdapterVersion): string | null {
  return manifest.files.find(({ path }) => path === CHAT_TEMPLATE_FILE)?.digest ?? null;
}

function isTemplateShared(versions: readonly AdapterVersion[]): boolean {
  const templates = new Set(versions.map(templateOf));
  return templates.size === 1 && !templates.has(null);
}
