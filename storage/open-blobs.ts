import type { Clock } from '../common/time/clock.ts';
import type { BlobReader } from './blob-readers.ts';
import type { ResumableBlobs } from './blob-store.ts';

/** Maximum number of files that stay open between requests, so that the next request need not open its file again. */
const IDLE_FILES = 16;
/** An idle file is closed after this time, so that the space of a deleted blob becomes free. */
const IDLE_MS = 5_000;

interface OpenBlob {
  readonly reader: Promise<BlobReader | null>;
  users: number;
  cancelClose: () => void;
}

/**
 * Keeps blobs open from one range to the next, because opening, stat and closing together take several times as long as
 * reading one range.
 */
export class OpenBlobs {
  readonly #blobs: Pick<ResumableBlobs, 'reader'>;
  readonly #clock: Clock;
  readonly #open = new Map<string, OpenBlob>();

  constructor(deps: { blobs: Pick<ResumableBlobs, 'reader'>; clock: Clock }) {
    this.#blobs = deps.blobs;
    this.#clock = deps.clock;
  }

  /** Runs `work` with the open blob, or with null if the blob is absent. */
  async use<T>(digest: string, work: (reader: BlobReader | null) => Promise<T>): Promise<T> {
    const blob = this.#acquire(digest);
    try {
      const reader = await blob.reader;
      if (reader?.isOld) {
        // The store has a new file, for example because it repaired a damaged blob.
        this.#forget(digest, blob);
        return await this.use(digest, work);
      }
      // Absence is not cached, because the blob may arrive at any moment.
      if (reader === null) this.#open.delete(digest);
      return await work(reader);
    } catch (error) {
      // The file may have been replaced or truncated, so open it again next time.
      this.#forget(digest, blob);
      throw error;
    } finally {
      this.#release(digest, blob);
    }
  }

  /** Closes the idle files now. Closes each other file when its last `use` has ended. */
  close(): void {
    for (const [digest, blob] of this.#open) this.#forget(digest, blob);
  }

  #acquire(digest: string): OpenBlob {
    const known = this.#open.get(digest);
    if (known !== undefined) {
      known.cancelClose();
      known.users++;
      return known;
    }
    for (const [other, blob] of this.#open) {
      if (this.#open.size < IDLE_FILES) break;
      this.#forget(other, blob);
    }
    const blob: OpenBlob = { reader: this.#blobs.reader(digest), users: 1, cancelClose: () => {} };
    this.#open.set(digest, blob);
    return blob;
  }

  #release(digest: string, blob: OpenBlob): void {
    blob.users--;
    if (blob.users > 0) return;
    if (this.#open.get(digest) !== blob) void closeFile(blob);
    else blob.cancelClose = this.#clock.after(IDLE_MS, () => this.#forget(digest, blob));
  }

  #forget(digest: string, blob: OpenBlob): void {
    blob.cancelClose();
    if (this.#open.get(digest) === blob) this.#open.delete(digest);
    else return;
    if (blob.users === 0) void closeFile(blob);
  }
}

async function closeFile(blob: OpenBlob): Promise<void> {
  const reader = await blob.reader.catch(() => null);
  await reader?.close();
}
