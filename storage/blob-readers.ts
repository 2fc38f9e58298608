import { openBlob, readFully } from './blob-files.ts';

/** An open blob. */
export interface BlobReader {
  /** Size of the whole blob in bytes. */
  readonly size: number;
  /** Whether the store has deleted or replaced the file since it was opened. The reader still reads the old file. */
  readonly isOld: boolean;
  /** Fills the targets in order with the bytes from `offset` on. @throws SwarmError BLOB_TRUNCATED */
  readInto(offset: number, targets: readonly Uint8Array[]): Promise<void>;
  close(): Promise<void>;
}

/** The open readers of a blob store. */
export class BlobReaders {
  readonly #states = new Map<string, Set<{ isOld: boolean }>>();

  /** Opens the blob in this file; null if the file is absent, or if this process may not open it. */
  async open(path: string): Promise<BlobReader | null> {
    const state = { isOld: false };
    // Register the state before the file is opened, so that no replacement goes unnoticed.
    this.#states.set(path, (this.#states.get(path) ?? new Set()).add(state));
    try {
      const file = await openBlob(path);
      if (file === null) {
        this.#forget(path, state);
        return null;
      }
      const { size } = await file.stat();
      return {
        size,
        get isOld() {
          return state.isOld;
        },
        readInto: (offset, targets) => readFully(file, offset, targets),
        close: () => {
          this.#forget(path, state);
          return file.close();
        },
      };
    } catch (error) {
      this.#forget(path, state);
      throw error;
    }
  }

  /** Marks the readers that were opened before the file at this path was deleted or replaced. */
  replaced(path: string): void {
    for (const state of this.#states.get(path) ?? []) state.isOld = true;
  }

  #forget(path: string, state: { isOld: boolean }): void {
    const states = this.#states.get(path);
    states?.delete(state);
    if (states?.size === 0) this.#states.delete(path);
  }
}
