import type { FinetuneResult } from '../lora/finetune/listener.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { addFolder } from './add-folder.ts';
import { LATEST, requireNewName } from './reference.ts';
import type { Registry } from './registry.ts';
import { finishedRun, nameOf, runFacts } from './run-facts.ts';
import type { AdapterVersion } from './version.ts';

/** The run to publish, and the name of its adapter. */
export interface PublishRunOptions {
  /** Output folder of the run. */
  readonly output: string;
  /** Result of the run. */
  readonly result: FinetuneResult;
  /** Name of the adapter. @default the name of the output folder */
  readonly name?: string | undefined;
  /** Folder that caches the digests of bases. @default no cache */
  readonly cacheDir?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Adds the adapter of a finished training run as a version, with the run's settings, the digests of its data, its losses,
 * and the version that it started from.
 * @throws SwarmError RUN_MISSING if the folder has no finished run; VERSION_NAME; the errors of `addFolder`
 */
export async function publishRun(
  registry: Registry,
  { output, result, name = nameOf(output), cacheDir, signal }: PublishRunOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const state = await finishedRun(output);
  const { settings } = state;
  return addFolder(registry, {
    name,
    folder: output,
    base: settings.spec.base,
    parents: startOf(settings.start, 'train', registry),
    ...runFacts(state, result),
    tags: [LATEST],
    reason: 'lora-swarm train',
    ...(cacheDir !== undefined && { cacheDir }),
    ...(signal && { signal }),
  });
}

/** Checks the name that `publishRun` will use, so that a run can be refused before it begins. @throws SwarmError VERSION_NAME */
export function requireRunName({
  output,
  name = nameOf(output),
}: Pick<PublishRunOptions, 'output' | 'name'>): void {
  requireNewName(name);
}

/**
 * Returns the version that training started from, as an entry for the manifest's `parents`. Returns no entry if the
 * registry does not know the version.
 * @param start `version`: digest of the version, null if it is not known. `digest`: digest of the adapter's weight file
 */
export function startOf(
  start: { version: string | null; digest: string } | null,
  method: string,
  registry: Registry,
): VersionManifest['parents'] {
  if (start === null) return [];
  const named = start.version === null ? null : registry.byDigest(start.version);
  const parent = named ?? registry.withFile(start.digest);
  return parent === null ? [] : [{ digest: parent.digest, label: parent.label, method, weight: 1 }];
}
