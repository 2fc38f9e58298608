/** The part of a head that counts rounds. */
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
 * Returns the number of rounds of a job, as people see it in "round 10 of 20": the manifest's count plus the rounds before
 * this one that ended without a checkpoint. A round that a stop cut off is the last one, and adds none.
 * @param position null before the first head
 */
export function totalRounds(count: number, position: RoundPosition | null): number {
  if (position === null) return count;
  const { round, checkpoint } = position;
  return count + Math.max(round - 1, checkpoint.round) - checkpoint.ordinal;
}
