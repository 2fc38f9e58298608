import type { Logger } from '../common/logger.ts';
import { sha256 } from '../protocol/cbor.ts';
import type { BlobStore } from './blobs.ts';

/**
 * Protects blobs from garbage collection while a piece of work runs. After the work, blobs that no database row needs
 * are deleted.
 */
export interface BlobScope {
  /** Protects a blob and stores it durably. Returns its digest. @param digest digest of `bytes`, if known */
  put(bytes: Uint8Array, digest?: string): Promise<string>;
  /** Protects a blob that the store has, or is about to get. */
  hold(digest: string): Promise<void>;
}

/**
 * The list of blobs that may be garbage, in the database of the node or coordinator. A blob is listed before it is
 * written, and again when the last row that needs it is deleted. So after a crash at any point, every unneeded blob is
 * still on the list.
 */
export interface UnusedBlobs {
  /** Adds a blob to the list. The entry is durable when this method returns. */
  markUnused(digest: string): void;
  /** Returns the blobs on the list that no database row needs. */
  unused(): string[];
  /** Returns whether a blob is on the list and no database row needs it. */
  isUnused(digest: string): boolean;
  /** Removes a blob from the list, after the blob was deleted. */
  forget(digest: string): void;
}

/** Garbage collection: deletes blobs that no row of the database needs and no scope protects. */
export class BlobCollector {
  readonly #store: UnusedBlobs;
  readonly #blobs: Pick<BlobStore, 'put' | 'delete'>;
  readonly #log: Logger;
  readonly #scopes = new Set<Set<string>>();
  #sweeping: Promise<void> = Promise.resolve();

  constructor(deps: { store: UnusedBlobs; blobs: Pick<BlobStore, 'put' | 'delete'>; log: Logger }) {
    this.#store = deps.store;
    this.#blobs = deps.blobs;
    this.#log = deps.log;
  }

  /**
   * Runs `work` with a scope. {@link sweep} keeps the scope's blobs until `work` ends. Afterwards, this method sweeps.
   */
  async withScope<T>(work: (scope: BlobScope) => Promise<T>): Promise<T> {
    const held = new Set<string>();
    this.#scopes.add(held);
    const hold = async (digest: string): Promise<void> => {
      held.add(digest);
      // A running sweep may be deleting this blob and would take it off the list afterwards. So wait until the sweep
      // ends.
      await this.#sweeping;
      this.#store.markUnused(digest);
    };
    try {
      return await work({
        hold,
        put: async (bytes, digest = sha256(bytes)) => {
          await hold(digest);
          return this.#blobs.put(bytes, digest);
        },
      });
    } finally {
      this.#scopes.delete(held);
      await this.sweep();
    }
  }

  /** Deletes the blobs that no row needs and no scope protects. A deletion that fails is repeated by the next sweep. */
  sweep(): Promise<void> {
    this.#sweeping = this.#sweeping.then(() =>
      this.#deleteUnused().catch((error: unknown) => this.#log.warn({ error }, 'sweep-failed')),
    );
    return this.#sweeping;
  }

  async #deleteUnused(): Promise<void> {
    for (const digest of this.#store.unused()) {
      // Check again, because a row that needs this blob may have been written during the earlier deletions.
      const held = [...this.#scopes].some((scope) => scope.has(digest));
      if (held || !this.#store.isUnused(digest)) continue;
      try {
        await this.#blobs.delete(digest);
      } catch (error) {
        this.#log.warn({ digest, error }, 'blob-not-deleted');
        continue;
      }
      this.#store.forget(digest);
    }
  }
}
