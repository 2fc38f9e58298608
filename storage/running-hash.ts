import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { storageError } from './errors.ts';
import type { HashAnswer } from './hash-worker.ts';

/** SHA-256 of bytes that arrive in pieces. */
export interface RunningHash {
  /** Hashes the next piece, which must not be written to until `done` returns it. */
  update(bytes: Uint8Array, done: Done): void;
  /** Returns the digest of all pieces in lower-case hex. May be called once. */
  digest(): Promise<string>;
  /** Stops early; pieces that are not hashed yet are not returned. */
  close(): void;
}

/** Returns a piece to its owner, who may write to it again. */
export type Done = (bytes: Uint8Array) => void;

/** Smallest blob that is hashed in a thread: for smaller ones, starting the thread takes longer than hashing. */
const THREAD_FROM_BYTES = 32 * 1024 * 1024;

/** Starts to hash `size` bytes: many bytes in a thread, so that the event loop stays free for the network. */
export function startHash(size: number): RunningHash {
  return size < THREAD_FROM_BYTES ? new InlineHash() : new ThreadHash();
}

class InlineHash implements RunningHash {
  readonly #hash = createHash('sha256');

  update(bytes: Uint8Array, done: Done): void {
    this.#hash.update(bytes);
    done(bytes);
  }

  async digest(): Promise<string> {
    return this.#hash.digest('hex');
  }

  close(): void {}
}

/**
 * Hashes in a worker thread, which reads pieces in shared memory in place; others are copied. If the thread dies, the
 * pieces are returned, so that no caller waits for ever, and the digest fails.
 */
class ThreadHash implements RunningHash {
  readonly #worker: Worker;
  readonly #waiting: { bytes: Uint8Array; done: Done }[] = [];
  readonly #digest = Promise.withResolvers<string>();
  #dead = false;

  constructor() {
    const entry = import.meta.url.endsWith('.ts') ? './hash-worker.ts' : './hash-worker.js';
    this.#worker = new Worker(new URL(entry, import.meta.url));
    this.#worker.on('message', (message: HashAnswer) => {
      if (message === null) {
        const piece = this.#waiting.shift();
        return piece?.done(piece.bytes);
      }
      this.#digest.resolve(message);
      this.close();
    });
    this.#worker.on('error', (error) => this.#fail(error));
    // Without this, a failure before the digest is asked for would be an unhandled rejection.
    this.#digest.promise.catch(() => {});
  }

  update(bytes: Uint8Array, done: Done): void {
    if (this.#dead) {
      done(bytes);
      return;
    }
    this.#waiting.push({ bytes, done });
    this.#worker.postMessage(bytes);
  }

  digest(): Promise<string> {
    this.#worker.postMessage(null);
    return this.#digest.promise;
  }

  close(): void {
    void this.#worker.terminate();
  }

  #fail(cause: unknown): void {
    this.#dead = true;
    const reason = cause instanceof Error ? cause.message : String(cause);
    this.#digest.reject(storageError('HASH_FAILED', `the hashing thread died: ${reason}`, {}, { cause }));
    for (const { bytes, done } of this.#waiting.splice(0)) done(bytes);
  }
}
