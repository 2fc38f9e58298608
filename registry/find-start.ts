import { isAbsolute } from 'node:path';
import type { StartAdapter } from '../lora/adapter/start.ts';
import type { OpenRegistryOptions } from './open.ts';

/**
 * Finds the adapter that training starts from.
 * @param start absolute path of a PEFT folder, or a version in the registry
 * @throws SwarmError REFERENCE_INVALID, VERSION_UNKNOWN, TAG_UNKNOWN, VERSION_REMOVED, VERSION_DAMAGED
 */
export async function findStart(start: string, options: OpenRegistryOptions = {}): Promise<StartAdapter> {
  if (isAbsolute(start)) return { folder: start };
  const { openRegistry } = await import('./open.ts');
  const registry = await openRegistry(options);
  try {
    const version = registry.resolve(start);
    const baseDigest = version.manifest.base.digest;
    return { folder: await registry.folder(version), baseDigest, version: version.digest };
  } finally {
    registry.close();
  }
}
