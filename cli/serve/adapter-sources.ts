import { basename, resolve } from 'node:path';
import type { AdapterSource, Registry } from '../../index.ts';
import { isPeftFolder } from '../../lora/adapter/peft.ts';
import { nameSchema } from '../../protocol/ids.ts';
import { parseReference } from '../../registry/reference.ts';
import { folderSource } from '../../serve/models/adapter-source.ts';
import { registrySource } from '../../serve/models/registry-source.ts';
import { usageError } from '../errors.ts';

export interface SourceOptions {
  readonly cwd: string;
  /** Digest and folder of the base. */
  readonly base: { readonly digest: string; readonly dir: string };
}

/**
 * Returns the adapter of one `--adapter`: `NAME=DIR`, a PEFT folder, or a version in the registry.
 * @throws SwarmError USAGE for a text that is none of these; VERSION_UNKNOWN, TAG_UNKNOWN, VERSION_REMOVED; FOLDER_UNUSABLE
 *   and STORE_* if the registry cannot be opened
 */
export async function adapterSource(
  text: string,
  { cwd, base }: SourceOptions,
  { registry }: { registry: () => Promise<Registry> },
): Promise<AdapterSource> {
  const [, name, path] = /^([^=/\\]+)=(.+)$/.exec(text) ?? [];
  const dir = resolve(cwd, path ?? text);
  const isFolder = await isPeftFolder(dir);
  if (name !== undefined && !isFolder) {
    throw usageError(
      `--adapter "${text}": ${dir} is not a folder with a PEFT adapter`,
      'check the path; the folder must contain adapter_config.json and adapter_model.safetensors',
    );
  }
  if (isFolder) {
    const served = name ?? basename(dir);
    if (!nameSchema.safeParse(served).success) {
      throw usageError(`"${served}" cannot be the name of an adapter`, 'give it a name: --adapter NAME=DIR');
    }
    return folderSource(served, dir);
  }
  const reference = parseReference(text);
  if (reference === null) {
    throw usageError(
      `--adapter "${text}" is neither a folder with a PEFT adapter nor a version in the registry`,
      'use NAME=DIR, or NAME, NAME:TAG, NAME:vN or NAME@DIGEST of "lora-swarm adapter list"',
    );
  }
  const opened = await registry();
  // A version that is missing at the start is a mistake of the operator. Later, it is an unknown model of a client.
  opened.resolve(reference);
  return registrySource({ reference, base }, { registry: opened });
}
