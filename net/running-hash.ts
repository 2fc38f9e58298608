import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';

/** SHA-256 of bytes that come piece by piece. */
export interface RunningHash {
  /** Takes the next piece; it must not change until `done` is called. */
  update(bytes: Uint8Array, done: () => void): void;
  /** The digest of all pieces in lower-case hex. To be asked once. */
  digest(): Promise<string>;
  /** Ends it early. */
  close(): void;
}

/** Below this much, starting a thread takes longer than hashing. */
const THREAD_FROM_BYTES = 32 * 1024 * 1024;

/** Hashes `size` bytes: in a thread of its own if there are many, so that the event loop has its time for the network. */
export function startHash(size: number): RunningHash {
  return size < THREAD_FROM_BYTES ? new InlineHash() : new ThreadHash();
}

class InlineHash implements RunningHash {
  readonly #hash = createHash('sha256');

  update(bytes: Uint8Array, done: () => void): void {
    this.#hash.update(bytes);
    done();
  }

  async digest(): Promise<string> {
    return this.#hash.digest('hex');
  }

  close(): void {}
}

/** Pieces in shared memory are hashed where they lie; others are copied to the thread. */
class ThreadHash implements RunningHash {
  readonly #worker: Worker;
  readonly #waiting: (() => void)[] = [];
  readonly #digest = Promise.withResolvers<string>();

  constructor() {
    const entry = import.meta.url.endsWith('.ts') ? './hash-worker.ts' : './hash-worker.js';
    this.#worker = new Worker(new URL(entry, import.meta.url));
    this.#worker.on('message', (digest: string | null) => {
      if (digest === null) return this.#waiting.shift()?.();
      this.#digest.resolve(digest);
      this.close();
    });
    this.#worker.on('error', (error) => this.#digest.reject(error));
    // Nobody may be waiting for the digest yet, or ever.
    this.#digest.promise.catch(() => {});
  }

  update(bytes: Uint8Array, done: () => void): void {
    this.#waiting.push(done);
    this.#worker.postMessage(bytes);
  }

  digest(): Promise<string> {
    this.#worker.postMessage(null);
    return this.#digest.promise;
  }

  close(): void {
    for (const done of this.#waiting.splice(0)) done();
    void this.#worker.terminate();
  }
}
