import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import { sleep } from '../common/time/deadline.ts';
import type { BlobStore } from './blobs.ts';

/** Pause after a portion of PORTION_BYTES or less. It is longer after a larger portion, in proportion to its bytes. */
const PORTION_PAUSE_MS = 60_000;
/**
 * Number of bytes after which a portion ends. With one portion a minute, the scrub reads at most about 1
 * MiB/s.
 */
const PORTION_BYTES = 64 * 1024 * 1024;
/** Maximum number of blobs in one portion. */
const PORTION_BLOBS = 200;
/** Pause after each MiB that is hashed, so that rounds and requests go first. */
const MIB_PAUSE_MS = 10;

export interface BlobScrubOptions {
  /** Returns the first digest after `after`, in ascending order; null if there is none. */
  readonly next: (after: string) => string | null;
  /** Checks a blob, and handles damage. */
  readonly check: (digest: string) => Promise<unknown>;
  /** Called before each pass over all blobs. @default does nothing */
  readonly beforePass?: () => Promise<void>;
}

interface BlobScrubDeps {
  readonly blobs: Pick<BlobStore, 'size'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Reads all blobs repeatedly at low priority, to find damage before a blob is needed. */
export class BlobScrub {
  readonly #options: BlobScrubOptions;
  readonly #deps: BlobScrubDeps;
  /** Digest of the last blob that was checked. */
  #cursor = '';

  constructor(options: BlobScrubOptions, deps: BlobScrubDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Runs until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { clock, signal, log } = this.#deps;
    while (!signal.aborted) {
      const bytes = await this.#portion().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ error }, 'scrub-failed');
        return 0;
      });
      // A blob is read as a whole, so a portion with a file of the base can have gigabytes. A larger portion
      // gets a longer pause.
      const pause = PORTION_PAUSE_MS * Math.max(1, bytes / PORTION_BYTES);
      // If the signal aborts, the wait and the loop end.
      await sleep(clock, pause, signal).catch(() => {});
    }
  }

  /** Checks the next portion of blobs. Returns the bytes of these blobs. */
  async #portion(): Promise<number> {
    const { next, check, beforePass } = this.#options;
    if (this.#cursor === '') await beforePass?.();
    let bytes = 0;
    for (let count = 0; count < PORTION_BLOBS && bytes < PORTION_BYTES; count++) {
      const digest = next(this.#cursor);
      this.#cursor = digest ?? '';
      if (digest === null) break;
      bytes += (await this.#deps.blobs.size(digest)) ?? 0;
      await check(digest);
    }
    return bytes;
  }
}

/** Returns the `pause` with which {@link BlobStore.check} reads a blob slowly. */
export function slowly({ clock, signal }: { clock: Clock; signal: AbortSignal }): () => Promise<void> {
  return () => sleep(clock, MIB_PAUSE_MS, signal);
}
