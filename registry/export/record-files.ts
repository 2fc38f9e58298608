import { lstat } from 'node:fs/promises';
import type { SwarmError } from '../../common/errors.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { VersionManifest } from '../../protocol/version-manifest.ts';
import { registryError } from '../errors.ts';
import { digestOfFile } from '../folder-views.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';

/** A version that comes from another machine: its signed manifest, and where its files are. */
export interface ForeignVersion {
  /** The signed manifest. */
  readonly envelope: Uint8Array;
  /** Returns the path on this machine of a file of the version. */
  readonly pathOf: (file: VersionManifest['files'][number]) => string;
  /**
   * Name of the adapter in this registry. If it differs from the name in the manifest, the version gets a new
   * manifest, with the original version as its parent. If it is the same, the version keeps its manifest, signature
   * and digest.
   * @default the name in the manifest
   */
  readonly name?: string | undefined;
  /** Origin of the version, which the tag log shows. */
  readonly reason: string;
  readonly signal: AbortSignal;
}

/**
 * Adds a version that another machine signed. Checks the signature, and the size and digest of every file.
 * @throws SwarmError IMPORT_NAME if no `name` is given, and versions of another author have the name in the
 *   manifest
 * @throws SwarmError IMPORT_DAMAGED if a file is missing, or differs from the manifest
 * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*, STORE_FULL, WRITE_FAILED; the signal's reason
 */
export async function recordFiles(
  registry: Registry,
  { envelope, pathOf, name, reason, signal }: ForeignVersion,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { message: manifest, digest, author } = verifyMessage('version-manifest', envelope);
  if (name === undefined) refuseTakenName(registry, manifest.name, author);
  const now = registry.clock.now();
  const held = manifest.files.map((file) => file.digest);
  const hold = registry.holds.hold(held, now);
  try {
    for (const file of manifest.files) {
      const path = pathOf(file);
      await requireFile(path, file);
      const imported = await registry.blobs.importFile(path, { signal });
      // The file may have been replaced since it was checked.
      if (imported.digest !== file.digest) throw damaged(path, file.digest);
    }
    const own = name === undefined || name === manifest.name;
    const renamed = (): Promise<Uint8Array> => {
      const parent = { digest, label: manifest.name, method: 'import', weight: 1 };
      return registry.sign({ ...manifest, name: name!, parents: [parent], createdAt: now });
    };
    return await registry.record({ envelope: own ? envelope : await renamed(), reason });
  } finally {
    registry.holds.release(hold);
  }
}

/**
 * Checks that a path is a regular file of this size and digest. Links are refused because they could lead out of the
 * folder, and pipes because reading one might never end.
 * @throws SwarmError IMPORT_DAMAGED
 */
export async function requireFile(
  path: string,
  { size, digest }: { size: number; digest: string },
): Promise<void> {
  const entry = await lstat(path).catch(() => null);
  if (entry?.isFile() && entry.size === size && (await digestOfFile(path)) === digest) return;
  throw damaged(path, digest);
}

function damaged(path: string, digest: string): SwarmError {
  return registryError('IMPORT_DAMAGED', `${path} is missing or damaged`, { path, digest });
}

/**
 * Refuses the name in a manifest if versions of another author have this name in the registry. The author of
 * the manifest chose the name. Without this check, any author could move the tag `latest` of another
 * author's adapter.
 * @throws SwarmError IMPORT_NAME
 */
function refuseTakenName(registry: Registry, name: string, author: string): void {
  const other = registry.versions(name).find((version) => version.author !== author);
  if (other === undefined) return;
  const message = `the imported adapter "${name}" is by ${author}, but ${other.label} in this registry is by ${other.author}`;
  throw registryError('IMPORT_NAME', message, { name, author, version: other.label, found: other.author });
}
