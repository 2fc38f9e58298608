import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';

/** A version of an adapter, as a PEFT folder. */
export interface ServedVersion {
  /** Digest of the version's settings and weights, in hex. */
  readonly digest: string;
  /** Returns the PEFT folder. Called when the version is loaded. */
  folder(): Promise<string>;
}

/** The part of a model name that chooses a version: a tag, a digest or the beginning of a digest. */
export type VersionChoice = { readonly tag: string } | { readonly digest: string };

/** A named adapter whose versions can change while the server runs. */
export interface AdapterSource {
  /** Name in requests, without a tag. */
  readonly name: string;
  /** Description of where the adapter comes from, which is shown to people: a folder, the registry or a job. */
  readonly origin: string;
  /**
   * Finds a version. Returns null if there is no such version.
   * @param choice null for the current version
   * @throws SwarmError if the source cannot be read
   */
  find(choice: VersionChoice | null): Promise<ServedVersion | null>;
}

/**
 * Returns a source with the adapter in one folder. If the files of the folder are replaced, the adapter has a new
 * version.
 */
export function folderSource(name: string, dir: string): AdapterSource {
  let known: { stamp: string; version: ServedVersion } | null = null;
  const current = async (): Promise<ServedVersion> => {
    const files = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE].map((file) => join(dir, file));
    const stats = await Promise.all(files.map((file) => stat(file)));
    const stamp = stats.map(({ mtimeMs, size, ino }) => `${mtimeMs}/${size}/${ino}`).join(' ');
    if (known?.stamp !== stamp) {
      const hash = createHash('sha256');
      for (const file of files) hash.update(await readFile(file));
      known = { stamp, version: { digest: hash.digest('hex'), folder: async () => dir } };
    }
    return known.version;
  };
  return {
    name,
    origin: dir,
    async find(choice) {
      if (choice !== null && 'tag' in choice) return null;
      const version = await current();
      return choice === null || version.digest.startsWith(choice.digest) ? version : null;
    },
  };
}
