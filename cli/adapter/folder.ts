import { resolve } from 'node:path';
import type { Context } from '../context.ts';
import { type RegistryFlags, withRegistry } from './with-registry.ts';

/** Help of options that take an adapter. */
export const ADAPTER_HELP =
  'folder of a PEFT adapter, or a version in the registry (NAME, NAME:TAG, NAME:vN, NAME@DIGEST)';

/** The PEFT folder of an adapter, and what the registry says about it. */
interface FoundAdapter {
  readonly folder: string;
  /**
   * Digest of the base that the registry records for the version; null if the user named a PEFT folder. The weights
   * file of such a folder may contain the digest in its metadata.
   */
  readonly baseDigest: string | null;
  /** Digest of the version; null if the user named a PEFT folder. */
  readonly version: string | null;
}

/**
 * Returns the folder of the adapter that the user named. If the name fits both a PEFT folder and an adapter in the
 * registry, the function chooses the folder.
 * @throws SwarmError VERSION_UNKNOWN, TAG_UNKNOWN, VERSION_DAMAGED
 */
export async function adapterFolder(
  context: Pick<Context, 'environment' | 'cwd' | 'clock'>,
  adapter: string,
  flags: Pick<RegistryFlags, 'registry'> = {},
): Promise<FoundAdapter> {
  const [{ isPeftFolder }, { parseReference }] = await Promise.all([
    import('../../lora/adapter/peft.ts'),
    import('../../registry/reference.ts'),
  ]);
  const folder = resolve(context.cwd, adapter);
  const reference = parseReference(adapter);
  if (reference === null || (await isPeftFolder(folder))) return { folder, baseDigest: null, version: null };
  return withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const baseDigest = version.manifest.base.digest;
    return { folder: await registry.folder(version), baseDigest, version: version.digest };
  });
}
