import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { storageError } from './errors.ts';
import type { HashAnswer } from './hash-worker.ts';

/** SHA-256 of bytes that come piece by piece. */
export interface RunningHash {
  /** Takes the next piece, which must not be written to before it comes back through `done`. */
  update(bytes: Uint8Array, done: Done): void;
  /** The digest of all pieces in lower-case hex. To be asked once. */
  digest(): Promise<string>;
  /** Ends it early; buffers that are with it do not come back. */
  close(): void;
}

/** Gets a piece back to write to. */
export type Done = (bytes: Uint8Array) => void;

/** Below this much, starting a thread takes longer than hashing. */
const THREAD_FROM_BYTES = 32 * 1024 * 1024;

/** Hashes `size` bytes: in a thread of its own if there are many, so that the event loop has its time for the network. */
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
 * The thread reads pieces in shared memory where they are; others are copied for it. One that dies gives back what it has,
 * so that nobody waits for it; only the digest fails.
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
    // Nobody may be waiting for the digest yet, or ever.
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
    this.#digest.reject(
      storageError('HASH_FAILED', `the thread that hashes has died: ${reason}; try again`, {}, { cause }),
    );
    for (const { bytes, done } of this.#waiting.splice(0)) done(bytes);
  }
}
