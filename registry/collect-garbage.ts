import { rmSync } from 'node:fs';
import type { Registry } from './registry.ts';

/** Time in milliseconds for which unneeded blobs are kept, so that a removed version can still be restored. */
export const GRACE_MS = 24 * 60 * 60 * 1000;

/** Options of a garbage collection. */
export interface CollectOptions {
  /** Whether to delete the blobs. If not, the blobs are only listed. @default false */
  readonly delete?: boolean;
  /** Milliseconds for which unneeded blobs, and the files of removed versions, are kept. @default 24 h */
  readonly graceMs?: number;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/** The unneeded blobs that a garbage collection found. */
export interface Collected {
  /** Whether the blobs were deleted. False if they were only listed. */
  readonly deleted: boolean;
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  readonly bytes: number;
}

/**
 * Finds the blobs that were not needed during the grace period. A version needs its blobs until it is removed. A
 * running addition or export needs the blobs that it has listed in the table of holds. Deletes the unneeded blobs only
 * if `delete` is set.
 * @throws the signal's reason
 */
export async function collectGarbage(registry: Registry, options: CollectOptions = {}): Promise<Collected> {
  const { delete: deletes = false, graceMs = GRACE_MS, signal } = options;
  const { holds, blobs, clock } = registry;
  signal?.throwIfAborted();
  const now = clock.now();
  const before = now - graceMs;
  if (deletes) holds.releaseExpired(now);
  const found: { digest: string; size: number }[] = [];
  for await (const { digest, size, modifiedAt } of blobs.list()) {
    signal?.throwIfAborted();
    if (modifiedAt > before || holds.isNeeded(digest, now, before)) continue;
    if (deletes && !deleteUnneeded(digest)) continue;
    found.push({ digest, size });
  }
  if (deletes) {
    await registry.sweepFolders((name, number) => {
      const version = registry.versions(name, { removed: true }).find((v) => v.number === number);
      return version !== undefined && (version.removedAt === null || version.removedAt > before);
    });
  }
  return { deleted: deletes, blobs: found, bytes: found.reduce((sum, { size }) => sum + size, 0) };

  /**
   * Checks again that a blob is unneeded, and deletes it. Other processes cannot write to the registry meanwhile, so
   * none can start to need the blob between the check and the deletion.
   */
  function deleteUnneeded(digest: string): boolean {
    return registry.exclusively(() => {
      if (holds.isNeeded(digest, now, before)) return false;
      rmSync(blobs.path(digest), { force: true });
      return true;
    });
  }
}
