import { makeFolder } from '../common/files/folders.ts';
import { resolveCache } from '../common/files/user-folders.ts';
import type { Context } from './context.ts';

/**
 * Returns the cache folder, and creates it if it is missing. Only its owner can read a new folder, because it holds the
 * weights of bases that may be private. An existing folder keeps its permissions, because users may share it on
 * purpose.
 * @throws SwarmError FOLDER_UNUSABLE
 */
export async function cacheFolder({
  environment,
  cwd,
}: Pick<Context, 'environment' | 'cwd'>): Promise<string> {
  const path = resolveCache(environment, cwd);
  await makeFolder(path, { mode: 0o700, next: 'set SWARM_CACHE to a folder that you may write to' });
  return path;
}
