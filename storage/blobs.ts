/** Content-addressed bytes: each blob is stored under its digest. */
export interface BlobStore {
  has(digest: string): Promise<boolean>;
  /** Returns the size in bytes, or null if the blob is absent. */
  size(digest: string): Promise<number | null>;
  /**
   * Stores bytes and returns their digest. When the promise resolves, file and folder have been synced to disk.
   * @param digest digest of `bytes`, if the caller has computed it
   */
  put(bytes: Uint8Array, digest?: string): Promise<string>;
  /**
   * Reads a whole blob and verifies its digest. Deletes the blob if it is damaged.
   * @throws SwarmError BLOB_MISSING, BLOB_CORRUPT, BLOB_SIZE if the blob is larger than `maxBytes`
   */
  get(digest: string, options: { maxBytes: number }): Promise<Uint8Array>;
  /**
   * Reads `length` bytes, or fewer at the end of the blob. Does not verify the bytes.
   * @throws SwarmError BLOB_MISSING
   */
  read(digest: string, offset: number, length: number): Promise<Uint8Array>;
  /**
   * Compares the bytes of a blob with its digest. Keeps a damaged blob, so that the caller can delete it or let a fetch
   * replace it.
   * @param options.pause called after each MiB. The check waits for it, so that more urgent work goes first
   */
  check(
    digest: string,
    options: { signal: AbortSignal; pause?: () => Promise<void> },
  ): Promise<'whole' | 'missing' | 'damaged'>;
  /** Deletes a blob and the partial files of its unfinished fetches. */
  delete(digest: string): Promise<void>;
  /** Deletes the partial files of unfinished fetches of a blob, from all origins. No fetch of the blob may be running. */
  deletePartial(digest: string): Promise<void>;
}

/** A blob store on disk. It also imports files and knows the paths of blobs. */
export interface FileBlobs extends BlobStore {
  /** Copies a file into the store. */
  importFile(path: string, options: { signal: AbortSignal }): Promise<{ digest: string; size: number }>;
  /** Returns the path that a blob has or would have in the store. */
  path(digest: string): string;
}
