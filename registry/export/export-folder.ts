import { join } from 'node:path';
import type { AbortOptions } from '../../common/abort-reason.ts';
import { writeDurably } from '../../common/files/durable.ts';
import { copyBytes } from '../../common/files/file-system.ts';
import { makeFolder } from '../../common/files/folders.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import { CARD_FILE, versionCard } from './card.ts';

/**
 * Names of two files in an exported folder: the readable manifest and the signed manifest. PEFT ignores both
 * files.
 */
const MANIFEST_FILE = 'swarm.json';
export const ENVELOPE_FILE = 'swarm-version.cbor';

/**
 * Runs `work` with the folder of a version. While it runs, no garbage collection of any process deletes the files.
 * @throws SwarmError VERSION_DAMAGED, and the errors of `work`
 */
export async function withFiles<T>(
  registry: Registry,
  version: AdapterVersion,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const digests = version.manifest.files.map(({ digest }) => digest);
  const hold = registry.holds.hold(digests, registry.clock.now());
  try {
    return await work(await registry.folder(version));
  } finally {
    registry.holds.release(hold);
  }
}

/**
 * Writes a version as a PEFT folder, with a model card (`README.md`), the manifest as readable JSON (`swarm.json`), and
 * the signed manifest (`swarm-version.cbor`).
 * @param output folder to write into; it is created if it is missing, and files of these names are overwritten
 * @throws SwarmError VERSION_DAMAGED, STORE_FULL, WRITE_FAILED, FOLDER_UNUSABLE; the signal's reason
 */
export async function exportFolder(
  registry: Registry,
  version: AdapterVersion,
  output: string,
  { signal }: AbortOptions = {},
): Promise<void> {
  signal?.throwIfAborted();
  await makeFolder(output);
  await withFiles(registry, version, async (folder) => {
    // Copies the bytes instead of linking the files, so that writing to the output does not change the registry.
    for (const { path } of version.manifest.files) {
      signal?.throwIfAborted();
      await copyBytes(join(folder, path), join(output, path));
    }
    signal?.throwIfAborted();
    await writeDurably(join(output, CARD_FILE), versionCard(registry, version));
    await writeDurably(join(output, ENVELOPE_FILE), registry.envelope(version));
    const { label, digest, author, manifest } = version;
    const readable = {
      version: label,
      digest,
      author,
      manifest,
      measurements: registry.measurements(version),
    };
    await writeDurably(join(output, MANIFEST_FILE), `${JSON.stringify(readable, null, 2)}\n`);
  });
}
