/** A blob, and the maximum number of bytes that it may have. */
export interface BlobWanted {
  readonly digest: string;
  /** Size of the blob in bytes; null if no signed message names it. */
  readonly size: number | null;
  readonly maxBytes: number;
}

/** The proof that a contributor of a checkpoint sent its update, and the coordinator's answer. All bytes are unverified. */
export interface UpdateProof {
  /** The signed update without its inline payload (protocol/evidence.ts). */
  readonly evidence: Uint8Array;
  /** The newest signed receipt of the update; null if there is none. */
  readonly receipt: Uint8Array | null;
}

/** One checkpoint with everything that proves how it was made. All bytes are unverified. */
export interface CheckpointRecord {
  /** Signed checkpoint. */
  readonly checkpoint: Uint8Array;
  /** Digest of the residual after the checkpoint's delta; null if it is zero or unknown. No signature covers it. */
  readonly residual: string | null;
  /** One proof for each contributor, in the order of the checkpoint; null where the source has none. */
  readonly proofs: readonly (UpdateProof | null)[];
  /** Signed scores of the merge; null if the merge was not scored. */
  readonly figures: Uint8Array | null;
  /** Signed heads that announce the checkpoint, in ascending order of term and sequence. A source may lack some. */
  readonly heads: readonly Uint8Array[];
}

/** The record of a job, from a coordinator, from a bundle, or from what a witness has kept. All bytes are unverified. */
export interface JobRecord {
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  /** Signed changes of the job's settings, oldest first. */
  readonly settings: readonly Uint8Array[];
  /**
   * Yields checkpoints, oldest first: those of round `from` and later rounds, and before them at least the newest
   * checkpoint of an earlier round, because the checks of a checkpoint need its parent.
   */
  checkpoints(from: number): AsyncIterable<CheckpointRecord>;
  /** Returns a blob, or null if the source does not have it. The caller verifies the digest. */
  blob(wanted: BlobWanted): Promise<Uint8Array | null>;
}
