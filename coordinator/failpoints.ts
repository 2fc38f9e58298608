/**
 * Steps of a round after which tests kill a coordinator, in order. After each step, the coordinator calls its failpoint
 * with the name of the step. Tests kill the real or the simulated process in this call. After a restart, they check
 * that nothing is lost and that nothing counts twice.
 */
export const failpoints = [
  /** An update's payload is stored as a blob; no row of the database names it yet. */
  'update-blob',
  /** Update and receipt are recorded, but not sent yet. */
  'update-recorded',
  /**
   * A head is recorded, but not sent yet. The head opens a round, or gives the reason why no round is open.
   */
  'head-recorded',
  /** A round is closed and its updates are selected, but not merged yet. */
  'round-closed',
  /** The scores of a closed round's updates are stored, or scoring has failed. Nothing is merged yet. */
  'scored',
  /** A merge has passed the gate, or a roll-back is decided; none of its results are durable yet. */
  'merged',
  /** All blobs of a checkpoint are stored; the checkpoint's folder does not exist yet. */
  'checkpoint-blobs',
  /** The checkpoint's folder is complete; no row of the database names it yet. */
  'checkpoint-folder',
  /** Checkpoint and next head are recorded, but not sent yet. */
  'checkpoint-recorded',
] as const;

export type FailpointName = (typeof failpoints)[number];
export type Failpoint = (name: FailpointName) => void;
