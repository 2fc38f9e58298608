/** Content-addressed bytes: what is in it has the digest it is asked by. */
export interface BlobStore {
  has(digest: string): Promise<boolean>;
  /** Size in bytes, or null when absent. */
  size(digest: string): Promise<number | null>;
  /** Durable (fsynced file and folder) when it resolves. Returns the digest. */
  put(bytes: Uint8Array): Promise<string>;
  /** Reads a whole blob. @throws SwarmError BLOB_MISSING, BLOB_SIZE when larger than `maxBytes` */
  get(digest: string, options: { maxBytes: number }): Promise<Uint8Array>;
  /** Reads a range, shorter at the end of the blob. @throws SwarmError BLOB_MISSING */
  read(digest: string, offset: number, length: number): Promise<Uint8Array>;
  /** With all that unfinished fetches have left of it. */
  delete(digest: string): Promise<void>;
}

/** A blob store on disk also takes in existing files and tells where a blob lies. */
export interface FileBlobs extends BlobStore {
  /** Copies (or links) a file in, hashing it as it goes. */
  importFile(path: string, options: { signal: AbortSignal }): Promise<{ digest: string; size: number }>;
  path(digest: string): string;
}
