import { rmSync } from 'node:fs';
import type { Registry } from './registry.ts';

/** Time in milliseconds for which blobs that nothing needs are kept: a removed version can be added back until then. */
export const GRACE_MS = 24 * 60 * 60 * 1000;

/** Options of a garbage collection. */
export interface CollectOptions {
  /** Delete the blobs. Otherwise, only list them. @default false */
  readonly delete?: boolean;
  /** Milliseconds for which unneeded blobs, and the files of removed versions, are kept. @default 24 h */
  readonly graceMs?: number;
}

/** The blobs that were found, or deleted. */
export interface Collected {
  readonly deleted: boolean;
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  readonly bytes: number;
}

/**
 * Garbage collection: finds the blobs that no version in use and no running addition or export needs, and that have been
 * unneeded for longer than the grace period. Deletes them only if asked to.
 */
export async function collectGarbage(registry: Registry, options: CollectOptions = {}): Promise<Collected> {
  const { delete: deletes = false, graceMs = GRACE_MS } = options;
  const { holds, blobs, clock } = registry;
  const now = clock.now();
  const before = now - graceMs;
  if (deletes) holds.releaseExpired(now);
  const found: { digest: string; size: number }[] = [];
  for await (const { digest, size, modifiedAt } of blobs.list()) {
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

  /** Checks again and deletes while no other process can hold the blob or record a version that needs it. */
  function deleteUnneeded(digest: string): boolean {
    return registry.exclusively(() => {
      if (holds.isNeeded(digest, now, before)) return false;
      rmSync(blobs.path(digest), { force: true });
      return true;
    });
  }
}
