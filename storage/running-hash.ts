import { createHash } from 'node:crypto';
import { entryOf } from '../common/workers/entry.ts';
import { ThreadCalls } from '../common/workers/thread.ts';
import { storageError } from './errors.ts';
import type { HashMethods } from './hash-thread.ts';

/** SHA-256 of bytes that arrive in pieces. */
export interface RunningHash {
  /** Hashes the next piece. The caller must not write to `bytes` until this object has called `release` with it. */
  update(bytes: Uint8Array, release: Release): void;
  /** Returns the digest of all pieces in lower-case hex. May be called once. */
  digest(): Promise<string>;
  /** Ends the hashing without a digest. Also calls `release` for the pieces that are not hashed yet. */
  close(): void;
}

/** Tells the owner of a piece that it may write to the piece again. */
export type Release = (bytes: Uint8Array) => void;

/**
 * Minimum size of a blob that is hashed in a thread. For a smaller blob, starting the thread takes longer than hashing.
 */
const THREAD_FROM_BYTES = 32 * 1024 * 1024;

/** Starts to hash `size` bytes. Hashes a large blob in a thread, so that the event loop stays free for the network. */
export function startHash(size: number): RunningHash {
  return size < THREAD_FROM_BYTES ? new InlineHash() : new ThreadHash();
}

class InlineHash implements RunningHash {
  readonly #hash = createHash('sha256');

  update(bytes: Uint8Array, release: Release): void {
    this.#hash.update(bytes);
    release(bytes);
  }

  async digest(): Promise<string> {
    return this.#hash.digest('hex');
  }

  close(): void {}
}

/**
 * Hashes in a worker thread. The thread reads pieces in shared memory directly; other pieces are copied to it. If the
 * thread dies, `release` returns all pieces, so that no caller waits forever, and `digest` rejects.
 */
class ThreadHash implements RunningHash {
  readonly #thread: ThreadCalls<HashMethods>;
  /** The error of the first piece that could not be hashed. */
  #failure: { cause: unknown } | null = null;

  constructor() {
    this.#thread = new ThreadCalls(entryOf(import.meta, './hash-thread'), {
      ended: (cause) => storageError('HASH_FAILED', 'the hashing thread died', {}, { cause }),
    });
  }

  update(bytes: Uint8Array, release: Release): void {
    this.#thread
      .call('update', bytes)
      .catch((cause: unknown) => {
        this.#failure ??= { cause };
      })
      .then(() => release(bytes));
  }

  async digest(): Promise<string> {
    // The thread serves this call after all pieces, so their failures are known by then.
    const digest = await this.#thread.call('digest', null);
    this.close();
    if (this.#failure !== null) {
      throw storageError(
        'HASH_FAILED',
        'the hashing thread could not hash a piece of the blob',
        {},
        this.#failure,
      );
    }
    return digest;
  }

  close(): void {
    void this.#thread.terminate();
  }
}
