import { type ExportedGguf, type ExportGgufOptions, exportGguf } from '../../lora/adapter/export-gguf.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import { versionCard } from './card.ts';
import { writeCard } from './card-file.ts';
import { withFiles } from './export-folder.ts';
import { baseOf } from './export-merged.ts';

/** Options for exporting a version to GGUF. */
export interface ExportVersionGgufOptions extends Omit<ExportGgufOptions, 'base' | 'adapter' | 'name'> {
  /** Folder of the base. @default the folder where the base was last seen on this machine */
  readonly base?: string;
}

/**
 * Writes a version as a GGUF file for llama.cpp and Ollama, alone or merged into its base, and a model card. The model
 * in the file has the version's label as its name.
 * @throws SwarmError BASE_UNKNOWN if no base is given, and none was seen on this machine
 * @throws SwarmError ADAPTER_BASE if the version was made for another base; the errors of `exportGguf`
 */
export async function exportVersionGguf(
  registry: Registry,
  version: AdapterVersion,
  options: ExportVersionGgufOptions,
): Promise<ExportedGguf> {
  const base = await baseOf(registry, version, options);
  const { label: name } = version;
  const form = (options.merge ?? true) ? 'gguf-merged' : 'gguf-adapter';
  const exported = await withFiles(registry, version, (adapter) =>
    exportGguf({ ...options, base, adapter, name }),
  );
  await writeCard(options.output, versionCard(registry, version, form), options.onWarning);
  return exported;
}
