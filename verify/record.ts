/** Maximum number of null rounds whose scores the record of a checkpoint contains. */
export const NULL_FIGURES = 8;

/** A blob, and the maximum number of bytes that it may have. */
export interface BlobWanted {
  readonly digest: string;
  /** Size of the blob in bytes; null if no signed message names it. */
  readonly size: number | null;
  readonly maxBytes: number;
}

/** The proof that a contributor of a checkpoint sent its update, and the coordinator's answer. All bytes are unverified. */
export interface UpdateProof {
  /** The signed update without its inline payload (protocol/evidence.ts); null if the source does not have it. */
  readonly evidence: Uint8Array | null;
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
  /**
   * Signed scores of the null rounds between the parent and this checkpoint, oldest first. At most NULL_FIGURES.
   * @default none
   */
  readonly nullFigures?: readonly Uint8Array[];
  /** Signed heads that announce the checkpoint, in ascending order of term and sequence. A source may lack some. */
  readonly heads: readonly Uint8Array[];
}

/** A checkpoint that a source has only with damaged bytes. */
export interface DamagedRecord {
  /** The digest that the bytes should have, the position among the checkpoints of the source (from 1), and their number. */
  readonly damaged: { readonly digest: string; readonly position: number; readonly count: number };
}

/** Facts about a source that has only a part of the record, such as a node. */
export interface PartialRecord {
  /** The newest signed head that the source has. The source may lack the checkpoint that the head announces. */
  readonly head: Uint8Array;
  /** Why the source lacks a part of the record. The report gives these reasons for the checks that were not made. */
  readonly reasons: {
    /** Reason why checkpoints are missing. */
    readonly checkpoints: string;
    /** Reason why the oldest changes of the settings are missing. */
    readonly settings: string;
    /** Reason why signed updates and their payloads are missing. */
    readonly updates: string;
    /** Reason why receipts are missing. */
    readonly receipts: string;
    /** Reason why scores are missing. */
    readonly figures: string;
    /** Reason why adapters are missing. */
    readonly adapters: string;
  };
}

/** The record of a job, from a coordinator, from a bundle, or from a node. All bytes are unverified. */
export interface JobRecord {
  /** Present if the source keeps only a part of the record. A missing checkpoint is then no problem. */
  readonly partial?: PartialRecord;
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  /** Signed changes of the job's settings, oldest first. */
  readonly settings: readonly Uint8Array[];
  /**
   * Yields the checkpoints of round `from` and later rounds, oldest first. Before them, yields at least the newest
   * checkpoint of an earlier round, because the checks of a checkpoint need its parent.
   */
  checkpoints(from: number): AsyncIterable<CheckpointRecord | DamagedRecord>;
  /** Returns a blob, or null if the source does not have it. The caller verifies the digest. */
  blob(wanted: BlobWanted): Promise<Uint8Array | null>;
}

/** Returns the newest null rounds between the checkpoints of two rounds, oldest first. */
export function nullRounds(parent: number, round: number): number[] {
  const first = Math.max(parent + 1, round - NULL_FIGURES);
  return Array.from({ length: Math.max(0, round - first) }, (_, i) => first + i);
}
