import type { BlobStore } from './blobs.ts';
import { getRepaired, lostBlob, type Repairs } from './lost-blobs.ts';

/** A blob store whose `get` repairs a blob that is missing or damaged. */
export interface RepairingBlobs extends BlobStore, Repairs {}

/**
 * Adds repairs to a blob store. The result has all other methods of the store too, such as `path` of a store
 * with files.
 */
export function repairingBlobs(blobs: BlobStore, repair: Repairs): RepairingBlobs {
  const added: Pick<RepairingBlobs, 'get' | 'repair'> = {
    get: (digest, options) => getRepaired(digest, options, blobs, repair),
    repair: (digest) => repair.repair(digest),
  };
  return new Proxy(blobs, {
    get: (target, property) => {
      if (Object.hasOwn(added, property)) return Reflect.get(added, property);
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    has: (target, property) => property in added || property in target,
  }) as RepairingBlobs;
}

/**
 * Runs work that reads blobs by their paths. Repairs a lost blob and runs the work again, as long as repairs
 * succeed.
 */
export async function withRepairs<T>(blobs: BlobStore, work: () => Promise<T>): Promise<T> {
  let last: string | null = null;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const digest = lostBlob(error);
      if (digest === null || digest === last || !('repair' in blobs)) throw error;
      if (!(await (blobs as RepairingBlobs).repair(digest))) throw error;
      last = digest;
    }
  }
}
