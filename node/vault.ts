import type { BlobStore } from '../net/network.ts';
import { sha256 } from '../protocol/cbor.ts';
import type { Logger } from '../protocol/logger.ts';
import type { NodeStore } from './store.ts';
import { factsOf } from './tasks.ts';

/** Where blobs of one piece of work go: kept until it ends, then kept only if a row names them. */
export interface Scope {
  /** Durable when it resolves. Returns the digest. */
  put(bytes: Uint8Array): Promise<string>;
  /** Announces a blob that is about to be fetched into the store; once it resolves nothing deletes it. */
  hold(digest: string): Promise<void>;
}

/**
 * The node's own large values in the blob store: adapters, residuals, moments, payloads. Whatever no row of the
 * database names any more is deleted; base and data never pass through here and stay.
 */
export class Vault {
  readonly #store: NodeStore;
  readonly #blobs: BlobStore;
  readonly #log: Logger;
  readonly #scopes = new Set<Set<string>>();
  #sweeping: Promise<void> = Promise.resolve();

  constructor(_options: object, deps: { store: NodeStore; blobs: BlobStore; log: Logger }) {
    this.#store = deps.store;
    this.#blobs = deps.blobs;
    this.#log = deps.log;
  }

  /** Runs `work`; what it puts is safe from {@link sweep} until it ends. Sweeps afterwards. */
  async scoped<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
    const held = new Set<string>();
    this.#scopes.add(held);
    const hold = (digest: string): Promise<void> => {
      held.add(digest);
      this.#store.loosen(digest);
      // A sweep that has not seen this may be deleting a blob with the same content.
      return this.#sweeping;
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

  /** Deletes what no row names and no running work holds. What cannot be deleted now is tried again the next time. */
  sweep(): Promise<void> {
    this.#sweeping = this.#sweeping.then(() =>
      this.#deleteUnused().catch((error: unknown) => this.#log.warn(factsOf(error), 'sweep-failed')),
    );
    return this.#sweeping;
  }

  async #deleteUnused(): Promise<void> {
    for (const digest of this.#store.unused()) {
      if ([...this.#scopes].some((held) => held.has(digest))) continue;
      await this.#blobs.delete(digest);
      this.#store.forget(digest);
    }
  }
}
