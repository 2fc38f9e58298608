import type { Logger } from '../common/logger.ts';
import { sha256 } from '../protocol/cbor.ts';
import type { BlobStore } from './blobs.ts';

/** Where blobs of one piece of work go: kept until it ends, then kept only if the owner's database needs them. */
export interface BlobScope {
  /** Durable when it resolves. Returns the digest. */
  put(bytes: Uint8Array): Promise<string>;
  /** Announces a blob that is about to come into the store; once it resolves nothing deletes it. */
  hold(digest: string): Promise<void>;
}

/**
 * The database's list of blobs that it does not need, or not yet. A blob is listed before it is written and again when
 * the last row that named it has gone, so that a crash at any point leaves nothing behind for ever.
 */
export interface UnusedBlobs {
  /** Durable when it returns. */
  markUnused(digest: string): void;
  /** Listed blobs that no row needs. */
  unused(): string[];
  /** Whether a blob is one of them now. */
  isUnused(digest: string): boolean;
  /** Takes a blob that has been deleted off the list. */
  forget(digest: string): void;
}

/** Deletes blobs, and only those that the database does not need: after it has stopped needing them, never before. */
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

  /** Runs `work`; what it puts or holds is safe from {@link sweep} until it ends. Sweeps afterwards. */
  async withScope<T>(work: (scope: BlobScope) => Promise<T>): Promise<T> {
    const held = new Set<string>();
    this.#scopes.add(held);
    const hold = async (digest: string): Promise<void> => {
      held.add(digest);
      // A sweep that has not seen this may be deleting a blob with the same content, and takes it off the list then.
      await this.#sweeping;
      this.#store.markUnused(digest);
    };
    try {
      return await work({
        hold,
        put: async (bytes) => {
          await hold(sha256(bytes));
          return this.#blobs.put(bytes);
        },
      });
    } finally {
      this.#scopes.delete(held);
      await this.sweep();
    }
  }

  /** Deletes what no row needs and no running work holds. What cannot be deleted now is tried again the next time. */
  sweep(): Promise<void> {
    this.#sweeping = this.#sweeping.then(() =>
      this.#deleteUnused().catch((error: unknown) => this.#log.warn({ error }, 'sweep-failed')),
    );
    return this.#sweeping;
  }

  async #deleteUnused(): Promise<void> {
    for (const digest of this.#store.unused()) {
      // Each deletion takes time, in which the work that held the next one may have ended and its row been written.
      const held = [...this.#scopes].some((scope) => scope.has(digest));
      if (held || !this.#store.isUnused(digest)) continue;
      try {
        await this.#blobs.delete(digest);
      } catch (error) {
        // It keeps no other from its turn.
        this.#log.warn({ digest, error }, 'blob-not-deleted');
        continue;
      }
      this.#store.forget(digest);
    }
  }
}
