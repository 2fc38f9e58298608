/** The part of a job that a node holds. */
export interface HeldPart {
  /** Round of the newest checkpoint that the node knows. The job can have later checkpoints. */
  readonly round: number;
  /** Time at which the coordinator signed the newest head that the node has, in milliseconds since 1970. */
  readonly issuedAt: number;
  /**
   * Round of the oldest checkpoint from which the chain to the newest one has no gap. If it is 0, the chain begins at the
   * first checkpoint of the job. Null if no checkpoint could be read.
   */
  readonly chainFrom: number | null;
  /** The newest weights whose bytes have the digest that the coordinator signed; null if the node gave none. */
  readonly weights: HeldWeights | null;
}

/** The weights of a checkpoint. */
export interface HeldWeights {
  readonly round: number;
  /** SHA-256 of the adapter's file, in hex. */
  readonly digest: string;
}
