/** The fields of a head that {@link totalRounds} needs. */
export interface RoundPosition {
  /** The open round, or the last one. */
  readonly round: number;
  readonly checkpoint: {
    /** Round that made the newest checkpoint. */
    readonly round: number;
    /** Checkpoints of the job so far, without the initial one. */
    readonly ordinal: number;
  };
}

/**
 * Returns the number of rounds of a job, for display as in "round 10 of 20". It is the manifest's count plus the
 * earlier rounds that ended without a checkpoint. A round that ended early because the job was stopped adds nothing.
 * @param position null before the first head
 */
export function totalRounds(count: number, position: RoundPosition | null): number {
  if (position === null) return count;
  const { round, checkpoint } = position;
  return count + Math.max(round - 1, checkpoint.round) - checkpoint.ordinal;
}
